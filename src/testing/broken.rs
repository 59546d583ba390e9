//! Stores that the suite must reject.

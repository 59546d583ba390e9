//! How to do what applications do with sessions, task by task.
#![doc = include_str!("../docs/guide.md")]

/// For whoever runs the application.
pub mod operations {
    #![doc = include_str!("../docs/operations.md")]
}

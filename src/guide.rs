//! How to do what applications do with sessions, task by task.
#![doc = include_str!("../docs/guide.md")]

//! stand-in
use crate::{Result, Timestamp};
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; 4]);
#[derive(Clone, Debug)]
pub struct KeyRing(u64);
impl KeyRing {
    pub fn generate(_: Timestamp) -> Result<Self> {
        Ok(Self(1))
    }
    pub fn rotated(&self, _: Timestamp, _: Duration) -> Result<Self> {
        Ok(Self(self.0 + 1))
    }
    pub fn retired(&self, _: KeyId) -> Result<Self> {
        Ok(Self(self.0 + 1))
    }
}

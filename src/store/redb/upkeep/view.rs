//! A session file as it was at one moment, which can be opened, and repaired, without touching it.
//!
//! redb never overwrites a page that a commit can reach while a read transaction stands on that
//! commit. So the bytes of the file, under the header from that moment, are a database of that
//! moment; what lies in pages it cannot reach is of no interest. What redb writes as it opens one
//! (a header, a rebuilt list of free pages) is kept in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::pin::Brake;
use super::progress::Progress;

/// A page of redb's; its header is the first of the file.
pub(super) const PAGE: usize = 4096;

/// Where the header keeps its flags, and what they are.
const FLAGS: usize = 9;
const RECOVERY_REQUIRED: u8 = 2;
const PRIMARY_UNFLUSHED: u8 = 8;

/// The first page of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head(Box<[u8]>);

impl Head {
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let mut page = vec![0; PAGE];
        file.read_exact_at(&mut page, 0)?;
        Ok(Self(page.into()))
    }

    /// Whether the commit it names is not on the disk yet, so that readers see the one before.
    pub(super) fn is_unflushed(&self) -> bool {
        self.0[FLAGS] & PRIMARY_UNFLUSHED != 0
    }

    /// The same, as a crash would have left it: whoever opens it rebuilds what it does not hold.
    pub(super) fn to_recover(&self) -> Self {
        self.with_flags(|flags| (flags | RECOVERY_REQUIRED) & !PRIMARY_UNFLUSHED)
    }

    /// The same, as if it had been closed: whoever opens it to read takes it as it is.
    pub(super) fn as_closed(&self) -> Self {
        self.with_flags(|flags| flags & !(RECOVERY_REQUIRED | PRIMARY_UNFLUSHED))
    }

    fn with_flags(&self, change: impl FnOnce(u8) -> u8) -> Self {
        let mut head = self.clone();
        head.0[FLAGS] = change(head.0[FLAGS]);
        head
    }
}

/// What redb opens in place of the file.
#[derive(Debug)]
pub(super) struct View {
    file: Arc<File>,
    brake: Arc<Mutex<Option<Brake>>>,
    progress: Progress,
    overlay: Mutex<Overlay>,
}

#[derive(Debug)]
struct Overlay {
    /// Whether what cannot be read is read as zeros. redb refuses everything after a failed read,
    /// and a damaged page may well point to where there is no file.
    lenient: bool,
    len: u64,
    pages: HashMap<u64, Box<[u8]>>,
}

impl View {
    pub(super) fn new(
        file: Arc<File>,
        head: Head,
        len: u64,
        brake: Arc<Mutex<Option<Brake>>>,
        progress: Progress,
    ) -> Self {
        let pages = HashMap::from([(0, head.0)]);
        let overlay = Overlay { lenient: false, len, pages };
        Self { file, brake, progress, overlay: Mutex::new(overlay) }
    }

    /// The same, of which as much is to be read as can be.
    pub(super) fn leniently(mut self) -> Self {
        self.overlay.get_mut().lenient = true;
        self
    }
}

impl Overlay {
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let beyond = offset.checked_add(out.len() as u64).is_none_or(|end| end > self.len);
        if beyond && !self.lenient {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            match file.read_at(&mut out[done..], offset + done as u64) {
                // The file has become shorter by pages that nothing here can reach.
                Ok(0) => {
                    out[done..].fill(0);
                    break;
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.lenient => {
                    out[done..].fill(0);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        for (number, start, within, len) in parts(offset, out.len()) {
            if let Some(page) = self.pages.get(&number) {
                out[start..start + len].copy_from_slice(&page[within..within + len]);
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        for (number, start, within, len) in parts(offset, data.len()) {
            if !self.pages.contains_key(&number) {
                let mut page = vec![0; PAGE];
                let known = self.len.saturating_sub(number * PAGE as u64).min(PAGE as u64);
                let known = usize::try_from(known).unwrap_or(PAGE);
                self.read(file, number * PAGE as u64, &mut page[..known])?;
                self.pages.insert(number, page.into());
            }
            if let Some(page) = self.pages.get_mut(&number) {
                page[within..within + len].copy_from_slice(&data[start..start + len]);
            }
        }
        Ok(())
    }
}

/// The pages that `len` bytes at `offset` lie in: number, where the part begins in these bytes and
/// in the page, and its length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let at = offset + start as u64;
        // Less than a page.
        let within = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let part = (PAGE - within).min(len - start);
        let item = (at / PAGE as u64, start, within, part);
        start += part;
        (part > 0).then_some(item)
    })
}

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        Ok(self.overlay.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(brake) = &mut *self.brake.lock() {
            brake.look();
        }
        self.progress.read(out.len())?;
        self.overlay.lock().read(&self.file, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.overlay.lock().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.overlay.lock().write(&self.file, offset, data)
    }

    // Nobody else sees what is written here.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

//! Which bytes of a closed file are which, by redb's file format (version 3): all that a commit can
//! reach from its roots.

/// Page 0: 64 bytes, and two commits of 128.
pub(crate) const HEADER_BYTES: usize = 320;
const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first page.
    Header,
    Branch,
    Leaf,
    /// Free, or of redb's own bookkeeping.
    Other,
}

/// Start and length of the pages in use.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    branches: Vec<(usize, usize)>,
    leaves: Vec<(usize, usize)>,
}

impl Pages {
    pub(crate) fn of(file: &[u8]) -> Self {
        let mut pages = Self::default();
        let commit = &file[64 + 128 * usize::from(file[9] & 1)..][..128];
        // The tree of tables, whose values hold the root of each; and that of redb's own.
        for (is_some, root) in [(commit[1], &commit[8..]), (commit[2], &commit[40..])] {
            if is_some != 0 {
                let mut tables = Vec::new();
                pages.walk(file, number(root), &mut tables);
                for table in tables {
                    pages.tables_in(file, table);
                }
            }
        }
        assert!(pages.branches.len() > 3 && pages.leaves.len() > 100, "{pages:?}");
        pages
    }

    pub(crate) fn all_of(&self, kind: Kind) -> &[(usize, usize)] {
        if kind == Kind::Branch { &self.branches } else { &self.leaves }
    }

    pub(crate) fn kind_at(&self, byte: usize) -> Kind {
        let holds = |pages: &[(usize, usize)]| {
            pages.iter().any(|&(start, len)| (start..start + len).contains(&byte))
        };
        match () {
            () if byte < PAGE => Kind::Header,
            () if holds(&self.branches) => Kind::Branch,
            () if holds(&self.leaves) => Kind::Leaf,
            () => Kind::Other,
        }
    }

    /// Adds the pages of the tree whose root is `root`, and its leaves to `leaves` as well.
    fn walk(&mut self, file: &[u8], root: u64, leaves: &mut Vec<usize>) {
        let (start, len) = place(file, root);
        match file[start] {
            1 => {
                self.leaves.push((start, len));
                leaves.push(start);
            }
            2 => {
                self.branches.push((start, len));
                let children = 1 + usize::from(short(&file[start + 2..]));
                let numbers = &file[start + 8 + 16 * children..][..8 * children];
                for child in numbers.chunks(8) {
                    self.walk(file, number(child), leaves);
                }
            }
            other => panic!("a page of type {other} at {start}"),
        }
    }

    /// Adds the pages of the tables that a leaf of the tree of tables names.
    fn tables_in(&mut self, file: &[u8], leaf: usize) {
        let page = &file[leaf..];
        let count = usize::from(short(&page[2..]));
        let end = |row: usize| usize::try_from(word(&page[4 + 4 * row..])).unwrap();
        for row in 0..count {
            // The end of the last key, or of the value before.
            let value = &page[end(count + row - 1)..];
            // Type, length, whether there is a root.
            if value[9] != 0 {
                self.walk(file, number(&value[10..]), &mut Vec::new());
            }
        }
    }
}

/// Where the page of a number is, in a file of one region, and its length.
fn place(file: &[u8], number: u64) -> (usize, usize) {
    let order = number >> 59;
    let index = usize::try_from(number & 0xf_ffff).unwrap();
    assert_eq!((number >> 20) & 0xf_ffff, 0, "of the first region");
    let before = PAGE * (1 + usize::try_from(word(&file[16..])).unwrap());
    let len = PAGE << order;
    (before + index * len, len)
}

fn short(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(bytes[..2].try_into().unwrap())
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

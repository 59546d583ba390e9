//! Lists of rows in each format, page by page.

use std::borrow::Cow;

use comfy_table::{ColumnConstraint, ContentArrangement, Row as TableRow, Table, Width, presets};
use serde::Serialize;

use super::{escape, to_json, unwritable};
use crate::cli::args::Format;
use crate::cli::console::{Console, Screen};
use crate::cli::exit::Outcome;
use crate::expiry::Timestamp;

/// Least number of an ID's digits that are shown.
const MIN_ID_DIGITS: usize = 8;
/// Columns between two columns.
const GAP: u16 = 2;
/// What is left at least of a column that is cut.
const LEAST_CUT: u16 = 8;

/// What a list is made of.
pub(crate) trait Row: Serialize + Sized {
    /// Names of the fields, as CSV heads them.
    const FIELDS: &'static [&'static str];
    /// Names of the columns for people.
    const HEADINGS: &'static [&'static str];
    /// Columns that are cut where the terminal is too narrow; the others are whole or left out.
    const CUT: &'static [usize];
    /// Columns that are left out where it is narrower still, the first one first.
    const LEFT_OUT: &'static [usize];

    fn id(&self) -> String;
    /// The same, written.
    fn put_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id().as_bytes());
    }
    /// The row as JSON that is safe to show.
    fn put_json(&self, out: &mut Vec<u8>) -> Outcome<()> {
        out.extend_from_slice(to_json(self)?.as_bytes());
        Ok(())
    }
    fn cells(&self, view: &View) -> Vec<String>;
}

/// How a table shows a row.
pub(crate) struct View {
    /// Times are shown relative to this one; `None`: as they are.
    pub(crate) relative_to: Option<Timestamp>,
    pub(crate) id_digits: usize,
}

/// Writes rows as they come. What it keeps does not grow with their number.
pub(crate) struct Listing {
    format: Format,
    screen: Screen,
    now: Timestamp,
    written: u64,
    /// Of the columns so far, so that one page lines up with the next.
    widths: Vec<u16>,
    /// What the last page was written from: the next one needs as much.
    text: Vec<u8>,
}

impl Listing {
    pub(crate) fn new(format: Format, screen: Screen, now: Timestamp) -> Self {
        Self { format, screen, now, written: 0, widths: Vec::new(), text: Vec::new() }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes some rows and passes them on at once.
    pub(crate) fn write<R: Row>(&mut self, rows: &[R], console: &mut Console<'_>) -> Outcome<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        match self.format {
            Format::Table => text.extend_from_slice(self.table(rows).as_bytes()),
            Format::Json => self.json(rows, &mut text)?,
            Format::Csv => self.csv(rows, &mut text)?,
            Format::Jsonl => {
                for row in rows {
                    row.put_json(&mut text)?;
                    text.push(b'\n');
                }
            }
            Format::Ids => {
                for row in rows {
                    row.put_id(&mut text);
                    text.push(b'\n');
                }
            }
        }
        self.written += rows.len() as u64;
        console.print_bytes(&text)?;
        self.text = text;
        Ok(console.stdout.flush()?)
    }

    /// Writes what a format needs after the last row, or instead of any.
    pub(crate) fn finish<R: Row>(&self, console: &mut Console<'_>) -> Outcome<()> {
        match (self.format, self.written) {
            (Format::Json, 0) => console.print("[]\n"),
            (Format::Json, _) => console.print("\n]\n"),
            (Format::Csv, 0) => console.print(&format!("{}\n", R::FIELDS.join(","))),
            _ => Ok(()),
        }
    }

    fn json<R: Row>(&self, rows: &[R], out: &mut Vec<u8>) -> Outcome<()> {
        for (index, row) in rows.iter().enumerate() {
            let before: &[u8] = if self.written == 0 && index == 0 { b"[\n  " } else { b",\n  " };
            out.extend_from_slice(before);
            row.put_json(out)?;
        }
        Ok(())
    }

    fn csv<R: Row>(&self, rows: &[R], out: &mut Vec<u8>) -> Outcome<()> {
        let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(out);
        if self.written == 0 {
            out.write_record(R::FIELDS).map_err(unwritable)?;
        }
        let fields = csv_fields(rows)?;
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&fields[..]);
        let mut fields = csv::StringRecord::new();
        while reader.read_record(&mut fields).map_err(unwritable)? {
            for field in &fields {
                out.write_field(&*harmless(field)).map_err(unwritable)?;
            }
            out.write_record(None::<&[u8]>).map_err(unwritable)?;
        }
        out.flush().map_err(unwritable)
    }

    fn table<R: Row>(&mut self, rows: &[R]) -> String {
        let view = View {
            relative_to: self.screen.stdout.then_some(self.now),
            id_digits: distinct_digits(rows),
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.written == 0 {
            let mut header = TableRow::from(R::HEADINGS);
            header.max_height(1);
            table.set_header(header);
        }
        for row in rows {
            let cells = row.cells(&view);
            let mut row = TableRow::from(cells.iter().map(|cell| escape::line(cell)));
            // Cut where it does not fit: a row is one line.
            row.max_height(1);
            table.add_row(row);
        }
        if self.screen.stdout {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_truncation_indicator("…");
            table.set_width(self.screen.width);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        self.align::<R>(&mut table);
        table.trim_fmt() + "\n"
    }

    fn align<R: Row>(&mut self, table: &mut Table) {
        let own = table.column_max_content_widths();
        self.widths.resize(own.len(), 0);
        for (width, own) in self.widths.iter_mut().zip(own) {
            *width = own.max(*width);
        }
        let hidden = if self.screen.stdout { self.too_wide::<R>() } else { &[] };
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            // On a terminal the arrangement decides about the columns that may be cut.
            if hidden.contains(&index) {
                column.set_constraint(ColumnConstraint::Hidden);
            } else if !self.screen.stdout || !R::CUT.contains(&index) {
                let width = Width::Fixed(self.widths[index].saturating_add(GAP));
                column.set_constraint(ColumnConstraint::LowerBoundary(width));
            }
        }
    }

    /// The columns that the terminal has no room for, though others are cut.
    fn too_wide<R: Row>(&self) -> &'static [usize] {
        let least = |(index, width): (usize, &u16)| {
            let width = if R::CUT.contains(&index) { (*width).min(LEAST_CUT) } else { *width };
            usize::from(width) + usize::from(GAP)
        };
        let mut needed: usize = self.widths.iter().enumerate().map(least).sum();
        let mut out = 0;
        while needed > usize::from(self.screen.width) && out < R::LEFT_OUT.len() {
            let index = R::LEFT_OUT[out];
            needed -= least((index, &self.widths[index]));
            out += 1;
        }
        &R::LEFT_OUT[..out]
    }
}

/// The rows as CSV in which text stands as it is.
fn csv_fields<R: Row>(rows: &[R]) -> Outcome<Vec<u8>> {
    let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        out.serialize(row).map_err(unwritable)?;
    }
    out.into_inner().map_err(unwritable)
}

/// The field, so that it acts on no terminal, and no spreadsheet takes it for a formula.
fn harmless(field: &str) -> Cow<'_, str> {
    let is_plain = field.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let field = if is_plain { Cow::Borrowed(field) } else { Cow::Owned(escape::line(field)) };
    match field.chars().next() {
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') => format!("'{field}").into(),
        _ => field,
    }
}

/// How many digits tell the IDs of these rows apart.
fn distinct_digits<R: Row>(rows: &[R]) -> usize {
    let mut ids: Vec<String> = rows.iter().map(Row::id).collect();
    ids.sort_unstable();
    let longest = ids.iter().map(String::len).max().unwrap_or(0);
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let needed = ids.windows(2).map(|pair| common(&pair[0], &pair[1]) + 1).max().unwrap_or(0);
    needed.max(MIN_ID_DIGITS).min(longest)
}

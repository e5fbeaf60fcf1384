//! A sheet of pictures, with headings above the columns and a name below each row: the overview that commands write.

use super::{
    Picture,
    text::{FADED, INK, LINE_HEIGHT, shortened},
};
use crate::{DataError, Result};

/// The sheet's ground: lighter than a portrait's background, darker than paper.
pub const GROUND: [u8; 3] = [0xf6, 0xf7, 0xf8];

/// Around the sheet, and between rows of several pictures that stand beside each other, in pixels.
const MARGIN: usize = 16;
/// Between the pictures of a row, and between a picture and its text.
const GAP: usize = 4;
/// Between rows, and between single pictures that stand beside each other.
const ROW_GAP: usize = 8;
/// Small pictures are enlarged by a whole factor to at least this side, and on a sheet of few pictures as near as possible to the other one.
const SIDES: [usize; 2] = [128, 192];
/// Pictures on a sheet of few.
const FEW: usize = 24;
/// Larger pictures are reduced to at most this side: each has a file of its own, the sheet is the overview.
const LARGEST: usize = 512;
/// Pixels of a sheet at most, about; the rows beyond are counted below it.
const MOST_PIXELS: usize = 16 << 20;
/// Columns beside each other at most; a wider table goes on below.
const MOST_COLUMNS: usize = 12;
/// Width over height that rows are put beside each other for.
const ASPECT: f64 = 1.3;

/// Rows of pictures with their names.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    title: String,
    headings: Vec<String>,
    rows: Vec<Row>,
    given: usize,
    pixels: usize,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    cells: Vec<Option<Picture>>,
}

/// Where things are on the sheet, in pixels.
struct Layout {
    /// Width and height of a picture's place.
    cell: [usize; 2],
    columns: usize,
    /// Rows beside each other, and rows below each other.
    blocks: usize,
    lines: usize,
    /// Heights of title, headings, a row's name and the last line; 0 where there are none.
    title: usize,
    heading: usize,
    name: usize,
    footer: usize,
}

impl Sheet {
    /// An empty sheet with headings over its columns; without any there is no line of headings.
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Says above everything what is shown.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a row; `None` leaves a picture's place empty. Rows that the sheet has no room for are only counted.
    pub fn row<P: Into<Option<Picture>>>(
        &mut self,
        name: impl Into<String>,
        pictures: impl IntoIterator<Item = P>,
    ) -> &mut Self {
        self.given += 1;
        if self.has_room() {
            let cells = pictures.into_iter().map(|p| p.into().map(Picture::bounded)).collect();
            let row = Row { name: name.into(), cells };
            self.pixels += row.pixels();
            self.rows.push(row);
        }
        self
    }

    /// Whether one more row would be drawn: who makes pictures for the sheet alone need not make those of other rows.
    pub fn has_room(&self) -> bool {
        self.pixels < MOST_PIXELS
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.given == 0
    }

    /// What is said where not all rows are drawn, such as "275 of 1000 shown".
    pub fn left_out(&self) -> Option<String> {
        (self.rows.len() < self.given).then(|| format!("{} of {} shown", self.rows.len(), self.given))
    }

    /// Draws the sheet.
    ///
    /// Pictures keep their pixels: small ones are enlarged by a whole factor, to the same place whatever their sizes are. Rows stand below
    /// each other, and beside each other where the sheet would become a strip; a table of very many columns goes on below in parts.
    ///
    /// # Errors
    /// [`DataError::InvalidArgument`] for a sheet without pictures, or a picture without pixels or with a wrong number of bytes.
    pub fn render(&self) -> Result<Picture> {
        let columns = self.columns();
        match columns.div_ceil(MOST_COLUMNS) {
            0 | 1 => self.render_whole(),
            parts => self.render_parts(columns.div_ceil(parts)),
        }
    }

    /// The same rows in parts of so many columns, below each other.
    fn render_parts(&self, columns: usize) -> Result<Picture> {
        let mut parts: Vec<Self> = Vec::new();
        for start in (0..self.columns()).step_by(columns) {
            let headings = self.headings.iter().skip(start).take(columns).cloned().collect();
            let cut = |row: &Row| Row {
                name: row.name.clone(),
                cells: row.cells.iter().skip(start).take(columns).cloned().collect(),
            };
            let rows: Vec<Row> = self.rows.iter().map(cut).collect();
            if rows.iter().any(|row| row.cells.iter().any(Option::is_some)) {
                parts.push(Self { headings, given: rows.len(), rows, ..Self::default() });
            }
        }
        if let Some(first) = parts.first_mut() {
            first.title.clone_from(&self.title);
        }
        if let Some(last) = parts.last_mut() {
            last.given = self.given;
        }
        let parts = parts.iter().map(Self::render_whole).collect::<Result<Vec<_>>>()?;
        let Some(width) = parts.iter().map(|part| part.width).max() else { return self.render_whole() };
        // Between two parts one margin is enough.
        let height = MARGIN + parts.iter().map(|part| part.height - MARGIN).sum::<usize>();
        let mut sheet = Picture::filled(width, height, GROUND);
        let mut top = 0;
        for part in &parts {
            sheet.paste(part, 0, top);
            top += part.height - MARGIN;
        }
        Ok(sheet)
    }

    fn render_whole(&self) -> Result<Picture> {
        let layout = self.layout()?;
        let [width, height] = layout.size();
        let mut sheet = Picture::filled(width, height, GROUND);
        let room = width - 2 * MARGIN;
        sheet.write_bold(MARGIN, MARGIN, &shortened(&self.title, room), INK);
        for block in 0..layout.blocks {
            for (j, heading) in self.headings.iter().enumerate() {
                let [left, _] = layout.place(block, j);
                sheet.write_bold(left, MARGIN + layout.title, &shortened(heading, layout.cell[0]), INK);
            }
        }
        for (i, row) in self.rows.iter().enumerate() {
            for (j, picture) in row.cells.iter().enumerate() {
                let Some(picture) = picture else { continue };
                let [left, top] = layout.place(i, j);
                let shown = picture.fitted(layout.cell);
                sheet.paste(
                    &shown,
                    left + (layout.cell[0] - shown.width) / 2,
                    top + (layout.cell[1] - shown.height) / 2,
                );
            }
            let [left, top] = layout.place(i, 0);
            let name = shortened(&row.name, layout.block_width());
            sheet.write_text(left, top + layout.cell[1] + GAP, &name, FADED);
        }
        if let Some(text) = self.left_out() {
            sheet.write_text(MARGIN, height - MARGIN - LINE_HEIGHT, &shortened(&text, room), FADED);
        }
        Ok(sheet)
    }

    fn columns(&self) -> usize {
        self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0).max(self.headings.len())
    }

    fn layout(&self) -> Result<Layout> {
        let mut side = [0, 0];
        for picture in self.rows.iter().flat_map(|row| row.cells.iter().flatten()) {
            super::check_length("picture length", picture.rgb.len(), &[picture.height, picture.width, 3])?;
            if picture.rgb.is_empty() {
                return Err(DataError::argument("sheet picture", "without pixels", "at least 1 x 1"));
            }
            side = [side[0].max(picture.width), side[1].max(picture.height)];
        }
        if side[0] == 0 {
            return Err(DataError::argument("sheet pictures", 0, "at least 1"));
        }
        let columns = self.columns();
        let factor = enlargement(side[0].max(side[1]), self.rows.len() * columns);
        let line = |wanted: bool, below: usize| if wanted { LINE_HEIGHT + below } else { 0 };
        let mut layout = Layout {
            cell: side.map(|s| s * factor),
            columns,
            blocks: 1,
            lines: self.rows.len(),
            title: line(!self.title.is_empty(), ROW_GAP),
            heading: line(self.headings.iter().any(|h| !h.is_empty()), GAP),
            name: line(self.rows.iter().any(|row| !row.name.is_empty()), GAP),
            footer: line(self.left_out().is_some(), 0),
        };
        layout.blocks = blocks(self.rows.len(), layout.block_pitch(), layout.line_height());
        layout.lines = self.rows.len().div_ceil(layout.blocks);
        Ok(layout)
    }
}

impl Row {
    /// Pixels that the row takes on a sheet, about.
    fn pixels(&self) -> usize {
        let side = self.cells.iter().flatten().map(|p| p.width.max(p.height)).max().unwrap_or(0);
        let side = side.clamp(SIDES[0], LARGEST);
        self.cells.len().max(1) * (side + GAP) * (side + LINE_HEIGHT + ROW_GAP)
    }
}

impl Layout {
    fn block_width(&self) -> usize {
        self.columns * (self.cell[0] + GAP) - GAP
    }

    /// From a row to the one beside it.
    fn block_pitch(&self) -> usize {
        self.block_width() + if self.columns == 1 { ROW_GAP } else { MARGIN }
    }

    /// From a row to the one below it.
    fn line_height(&self) -> usize {
        self.cell[1] + self.name + ROW_GAP
    }

    /// Left and top of a row's j-th picture; rows go from left to right, then down.
    fn place(&self, row: usize, j: usize) -> [usize; 2] {
        let left = MARGIN + row % self.blocks * self.block_pitch() + j * (self.cell[0] + GAP);
        [left, MARGIN + self.title + self.heading + row / self.blocks * self.line_height()]
    }

    fn size(&self) -> [usize; 2] {
        let width = 2 * MARGIN + (self.blocks - 1) * self.block_pitch() + self.block_width();
        let rows = self.lines * self.line_height() - ROW_GAP;
        let footer = if self.footer > 0 { ROW_GAP + self.footer } else { 0 };
        [width, MARGIN + self.title + self.heading + rows + footer + MARGIN]
    }
}

/// The whole factor by which pictures of a side are enlarged when there are so many.
fn enlargement(side: usize, pictures: usize) -> usize {
    let [least, wanted] = SIDES;
    let factor = least.div_ceil(side.max(1)).max(1);
    if pictures <= FEW { factor.max(wanted / side.max(1)) } else { factor }
}

/// How many rows stand beside each other, so that the sheet is neither a strip nor full of holes at its end.
fn blocks(rows: usize, width: usize, height: usize) -> usize {
    let badness = |blocks: usize| {
        let lines = rows.div_ceil(blocks);
        let aspect = (blocks * width) as f64 / (lines * height) as f64;
        let empty = (blocks * lines - rows) as f64 / (blocks * lines) as f64;
        (aspect / ASPECT).ln().abs() + 3.0 * empty
    };
    // Beyond this many the sheet is wider than it should be whatever the holes are.
    let most = ((rows * height) as f64 / width as f64).sqrt() * 2.0;
    (1..=rows.min(most as usize + 1)).min_by(|&a, &b| badness(a).total_cmp(&badness(b))).unwrap_or(1)
}

impl Picture {
    /// The picture, reduced where it is larger than a sheet's places are.
    fn bounded(self) -> Self {
        match self.width.max(self.height).div_ceil(LARGEST) {
            0 | 1 => self,
            factor => self.reduced(factor),
        }
    }

    /// The picture as large as a place allows: enlarged or reduced by a whole factor.
    fn fitted(&self, [width, height]: [usize; 2]) -> Self {
        let factor = (width / self.width).min(height / self.height);
        match factor {
            0 => self.reduced(self.width.div_ceil(width).max(self.height.div_ceil(height))),
            factor => self.enlarged(factor),
        }
    }
}

#[cfg(test)]
mod tests;

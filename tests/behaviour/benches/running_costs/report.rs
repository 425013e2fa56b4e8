//! What was measured: a table, of which the plot is made as well.

use crate::servers::Contender;

/// How wide the first column of the printed table is.
const WIDTH: usize = 68;
/// What stands where there is no figure.
const NOTHING: &str = "–";

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// One figure of every server.
pub(crate) struct Row {
    pub(crate) what: String,
    values: [Option<f64>; Contender::ALL.len()],
    /// What the figure of `entra-mcp` should be at most.
    pub(crate) aim: Option<f64>,
}

impl Row {
    /// The figures that there are.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (Contender, f64)> {
        Contender::ALL.into_iter().zip(self.values).filter_map(|(contender, value)| Some((contender, value?)))
    }

    /// The aim, and whether the figure of `entra-mcp` is within it.
    fn judgement(&self) -> String {
        match (self.aim, self.values[Contender::Ours as usize]) {
            (Some(aim), Some(value)) if value > aim => format!("≤ {}, missed", figure(aim)),
            (Some(aim), _) => format!("≤ {}", figure(aim)),
            (None, _) => String::new(),
        }
    }

    fn cells(&self) -> [String; Contender::ALL.len()] {
        self.values.map(|value| value.map_or_else(|| NOTHING.to_owned(), figure))
    }
}

impl Report {
    /// Notes a figure, and prints it.
    pub(crate) fn put(&mut self, what: &str, of: Contender, value: f64) {
        println!("{what:<WIDTH$} {:<18} {:>10}", of.name(), figure(value));
        self.row(what).values[of as usize] = Some(value);
    }

    /// Notes what a figure of `entra-mcp` should be at most.
    pub(crate) fn aim(&mut self, what: &str, at_most: f64) {
        self.row(what).aim = Some(at_most);
    }

    /// Notes what people have to know who read the figures.
    pub(crate) fn note(&mut self, text: String) {
        println!("{text}");
        self.notes.push(text);
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// As a table for people at a terminal.
    pub(crate) fn table(&self) -> String {
        let line = |first: &str, cells: &[String], last: &str| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>16}")).collect();
            format!("{first:<WIDTH$}{cells}  {last}\n")
        };
        let heads = Contender::ALL.map(|contender| contender.name().to_owned());
        let rows = self.rows.iter().map(|row| line(&row.what, &row.cells(), &row.judgement()));
        std::iter::once(line("", &heads, "aim")).chain(rows).collect()
    }

    /// As a table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let heads = Contender::ALL.map(Contender::name).join(" | ");
        let rule = "---: | ".repeat(Contender::ALL.len());
        let head = format!("| what | {heads} | aim of entra-mcp |\n| --- | {rule}--- |\n");
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells().join(" | ");
            format!("| {} | {cells} | {} |\n", row.what, row.judgement())
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn row(&mut self, what: &str) -> &mut Row {
        let known = self.rows.iter().position(|row| row.what == what);
        let place = known.unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), values: [None; Contender::ALL.len()], aim: None });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }
}

/// With as many digits as mean something.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

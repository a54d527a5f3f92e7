//! A figure, and the two ways to print many.

use serde_json::{Value, json};

/// Something that was measured, beside a peer where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    peer: Option<(String, f64)>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, peer: None }
    }

    /// The same figure of somebody else.
    pub(crate) fn beside(self, peer: &str, value: f64) -> Self {
        Self { peer: Some((peer.to_owned(), value)), ..self }
    }

    fn as_json(&self) -> Value {
        let mut object = json!({ "name": self.name, "value": self.value, "unit": self.unit });
        if let (Some((peer, value)), Some(fields)) = (&self.peer, object.as_object_mut()) {
            fields.insert("peer".into(), json!(peer));
            fields.insert("peer_value".into(), json!(value));
            fields.insert("ratio".into(), json!(self.value / value));
        }
        object
    }
}

/// All of them as a list of objects.
pub(crate) fn json(figures: &[Figure]) -> String {
    let objects: Vec<Value> = figures.iter().map(Figure::as_json).collect();
    serde_json::to_string_pretty(&objects).unwrap()
}

/// All of them as a table in Markdown.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut text = "| what | value | | beside | its value | ratio |\n|---|--:|---|---|--:|--:|".to_owned();
    for Figure { name, value, unit, peer } in figures {
        let beside = match peer {
            Some((peer, other)) => format!("{peer} | {} | {}", short(*other), short(value / other)),
            None => "| |".to_owned(),
        };
        text.push_str(&format!("\n| {name} | {} | {unit} | {beside} |", short(*value)));
    }
    text
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

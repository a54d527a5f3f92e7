//! Grants and refusals of the last hour as bars, a minute each; the same in words for who does not see them.

use blindferry_proto::report::Minute;
use maud::{Markup, html};

/// The bars: grants upwards from one line, refusals downwards, so that no colour is needed to tell them apart. Both have
/// the same scale; the line stands where the highest of each fit.
pub(super) fn chart(minutes: &[Minute]) -> Markup {
    let most = |count: fn(&Minute) -> u32| minutes.iter().map(count).max().unwrap_or(0);
    let sum = |count: fn(&Minute) -> u32| minutes.iter().map(|minute| u64::from(count(minute))).sum::<u64>();
    let scale = Scale::of(most(|minute| minute.granted), most(|minute| minute.refused));
    let (granted, refused) = (sum(|minute| minute.granted), sum(|minute| minute.refused));
    let width = minutes.len() * STEP;
    let said = format!(
        "{granted} grants and {refused} refusals in the last hour; at most {} grants and {} refusals in a minute",
        most(|minute| minute.granted),
        most(|minute| minute.refused)
    );
    html! {
        svg.chart role="img" aria-label=(said) viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" {
            @for (place, minute) in minutes.iter().enumerate() {
                (bar("granted", place, scale.line - scale.height(minute.granted), scale.height(minute.granted)))
                (bar("refused", place, scale.line, scale.height(minute.refused)))
            }
            line.axis x1="0" y1=(scale.line) x2=(width) y2=(scale.line) {}
        }
        div.scale aria-hidden="true" { span { "an hour ago" } span { "30 min" } span { "now" } }
        ul.key {
            li { (swatch("granted")) "▲ granted: " strong { (granted) } ", at most " (most(|minute| minute.granted)) " a minute" }
            li { (swatch("refused")) "▼ refused: " strong { (refused) } ", at most " (most(|minute| minute.refused)) " a minute" }
        }
    }
}

/// How high bars are, and where the line is from which they go up and down.
struct Scale {
    line: u32,
    all: u64,
}

impl Scale {
    fn of(up: u32, down: u32) -> Self {
        let mut scale = Self { line: 0, all: u64::from(up) + u64::from(down) };
        // Where nothing happened it is at the foot.
        scale.line = if scale.all == 0 { HEIGHT - LEAST } else { scale.height(up).max(LEAST) + 1 };
        scale
    }

    /// One is seen beside a million.
    fn height(&self, count: u32) -> u32 {
        let scaled = u64::from(count) * u64::from(HEIGHT - 2 * LEAST - 2) / self.all.max(1);
        let scaled = u32::try_from(scaled).unwrap_or(HEIGHT);
        if count == 0 { 0 } else { scaled.max(LEAST) }
    }
}

fn bar(class: &str, place: usize, y: u32, height: u32) -> Markup {
    html! { @if height > 0 { rect class=(class) x=(place * STEP + 1) y=(y) width=(STEP - 2) height=(height) {} } }
}

fn swatch(class: &str) -> Markup {
    html! { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } }
}

const STEP: usize = 10;
const HEIGHT: u32 = 120;
/// Of a bar that is there at all.
const LEAST: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_on_their_side_and_in_the_picture_and_one_is_seen_beside_many() {
        for (up, down) in [(0, 0), (1, 0), (0, 1), (1, 1), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let scale = Scale::of(up, down);
            for (count, room) in [(up, scale.line), (down, HEIGHT - scale.line)] {
                let height = scale.height(count);
                assert!(height <= room && (height == 0) == (count == 0), "{up} {down}: {height} in {room}");
            }
        }
        assert_eq!(Scale::of(7, 9).height(1), Scale::of(9, 7).height(1), "one scale for both");
    }

    #[test]
    fn what_the_bars_say_is_said_in_words() {
        let minutes =
            [Minute { granted: 3, refused: 1, ..Minute::default() }, Minute { granted: 4, ..Minute::default() }];
        let text = chart(&minutes).into_string();
        assert!(text.contains("7 grants and 1 refusals in the last hour; at most 4 grants"), "{text}");
    }
}

//! Plots as SVG, drawn from small JSON files so that a picture can be redrawn without measuring. SVG needs no fonts and
//! no system library.

mod axes;
mod bars;
pub mod data;
mod grid;
mod labels;
mod lines;
mod style;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use plotters::drawing::IntoDrawingArea as _;
use plotters::prelude::{SVGBackend, WHITE};

pub use self::axes::number;
use self::data::{Chart, Plot};
use self::style::Drawn;

/// Draws a picture next to its data, and returns its path.
pub fn draw(plot: &Plot, data: &Path) -> Result<PathBuf> {
    let path = data.with_extension("svg");
    let picture = svg(plot).map_err(|reason| anyhow!("failed to draw {}: {reason}", path.display()))?;
    write(&path, &picture)?;
    Ok(path)
}

/// Redraws the picture of a data file, and returns its path.
pub fn redraw(data: &Path) -> Result<PathBuf> {
    let text = fs::read(data).with_context(|| format!("failed to read {}", data.display()))?;
    let plot: Plot = serde_json::from_slice(&text)
        .with_context(|| format!("failed to parse {} as the data of a plot", data.display()))?;
    draw(&plot, data)
}

/// Writes a text file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn svg(plot: &Plot) -> Result<String, String> {
    let size = match &plot.chart {
        Chart::Grid(grid) => (900, 60 + 200 * u32::try_from(grid.rows.len()).unwrap_or(1)),
        Chart::Bars(_) | Chart::Lines(_) => (900, 480),
    };
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
        canvas.fill(&WHITE).drawn()?;
        let body = style::title_and_source(&canvas, &plot.title, &plot.source)?;
        match &plot.chart {
            Chart::Bars(bars) => bars::draw(&body, bars)?,
            Chart::Lines(chart) => lines::draw(&body, chart)?,
            Chart::Grid(grid) => grid::draw(&body, grid)?,
        }
        canvas.present().drawn()?;
    }
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::data::{Bars, ChartLine, Grid, GridRow, LineChart};
    use super::*;
    use crate::measure::spread::Spread;

    fn spread(value: f64) -> Spread {
        Spread::of([value * 0.95, value, value * 1.08]).unwrap()
    }

    fn plot(chart: Chart) -> Plot {
        Plot {
            title: "Title".to_owned(),
            // A processor's name may hold markup.
            source: "A <Processor> & more; Kafka 4".to_owned(),
            chart,
        }
    }

    fn bars() -> Plot {
        let products = [("affluent", 45_000.0), ("Spark", 7_000.0)];
        plot(Chart::Bars(Bars {
            y_label: "rows/s".to_owned(),
            bars: products
                .map(|(name, speed)| (name.to_owned(), spread(speed)))
                .into(),
            baseline: Some(("driver baseline".to_owned(), 47_000.0)),
        }))
    }

    fn lines(y_log: bool) -> Plot {
        let points = |factor: f64| {
            [100.0, 500.0, 2_000.0]
                .map(|x: f64| (x, factor * x.sqrt()))
                .into()
        };
        let mut spark = ChartLine::new("Spark", points(90.0)).labelled("Spark");
        spark.overloaded = true;
        plot(Chart::Lines(LineChart {
            x_label: "records/s".to_owned(),
            y_label: "milliseconds".to_owned(),
            x_log: y_log,
            y_log,
            lines: vec![
                ChartLine::new("affluent", points(1.0)).labelled("affluent"),
                spark,
            ],
        }))
    }

    fn grid() -> Plot {
        let points = vec![(1.0, spread(45_000.0)), (12.0, spread(41_000.0))];
        plot(Chart::Grid(Grid {
            product: "affluent".to_owned(),
            columns: vec!["partitions".to_owned(), "nodes".to_owned()],
            rows: vec![GridRow {
                label: "CPU s per million rows".to_owned(),
                panels: vec![points.clone(), points],
            }],
        }))
    }

    #[test]
    fn every_chart_is_redrawn_from_its_json() {
        let folder = tempfile::tempdir().unwrap();
        for (plot, expected) in [
            (bars(), &["rows/s", "driver baseline: 47,000", "Spark"][..]),
            (lines(true), &["records/s", "milliseconds", "Spark"]),
            (lines(false), &["records/s", "milliseconds", "affluent"]),
            (grid(), &["partitions", "nodes", "CPU s per million rows"]),
        ] {
            let data = folder.path().join("plot.json");
            write(&data, &plot.to_json().unwrap()).unwrap();
            let picture = fs::read_to_string(redraw(&data).unwrap()).unwrap();
            assert!(picture.starts_with("<svg") && !picture.contains("<Processor>"));
            for word in expected.iter().chain(&["Title", "Kafka 4"]) {
                assert!(picture.contains(word), "no {word:?} in {picture}");
            }
        }
    }

    #[test]
    fn json_has_a_line_for_each_series() {
        let text = lines(true).to_json().unwrap();
        let read: Plot = serde_json::from_str(&text).unwrap();
        assert_eq!(read, lines(true));
        assert!(text.lines().count() < 20, "{text}");
        let series = text.lines().filter(|line| line.contains("\"points\""));
        assert_eq!(series.count(), 2, "{text}");
    }

    #[test]
    fn file_without_a_plot_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("other.json");
        write(&data, "{}").unwrap();
        let error = redraw(&data).unwrap_err().to_string();
        assert!(error.contains("other.json as the data of a plot"), "{error}");
    }
}

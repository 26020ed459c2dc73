//! Draws a flower, another one for every render: so that anybody sees at a
//! glance whether the page in front of them is a new one.

use std::f64::consts::TAU;
use std::fmt::Write;

/// The flower of a seed, as an SVG element. The same seed gives the same flower.
pub(super) fn svg(seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    // Any but green, which the leaves have.
    let hue = (170 + random.u32(0..270)) % 360;
    // A warm heart goes with any petal.
    let heart = random.u32(28..52);
    let petals = random.u32(6..14);
    let rings = random.u32(1..4);
    let length = 58.0 + random.f64() * 22.0;
    let width = TAU * length / f64::from(petals) * (0.30 + random.f64() * 0.22);
    let point = 0.35 + random.f64() * 0.5;
    let lean = random.f64() * 36.0 - 18.0;
    let (x, y) = (160.0 + lean, 132.0);

    let mut out = String::with_capacity(6 * 1024);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<svg class=\"flower\" viewBox=\"0 0 320 400\" role=\"img\" aria-label=\"A flower, drawn \
         by this render\"><g fill=\"none\" stroke=\"var(--stem)\" stroke-width=\"3.2\" \
         stroke-linecap=\"round\"><path d=\"M160 392 C {} 320, {} 240, {x:.0} {y:.0}\"/></g>",
        160.0 - lean * 1.6,
        160.0 + lean * 1.4,
    );
    for leaf in 0..random.u32(2..5) {
        let side = if leaf % 2 == 0 { 1.0 } else { -1.0 };
        let base = 352.0 - f64::from(leaf) * (26.0 + random.f64() * 14.0);
        let reach = side * (54.0 + random.f64() * 30.0);
        let rise = 26.0 + random.f64() * 26.0;
        let from = 160.0 - lean * 0.35 * (392.0 - base) / 120.0;
        let (tip_x, tip_y) = (from + reach, base - rise);
        let _ = write!(
            out,
            "<path fill=\"var(--leaf)\" d=\"M{from:.1} {base:.1} Q {:.1} {:.1} {tip_x:.1} \
             {tip_y:.1} Q {:.1} {:.1} {from:.1} {base:.1}Z\"/>",
            from + reach * 0.25,
            base - rise * 1.35,
            from + reach * 0.75,
            base + rise * 0.2,
        );
    }
    for ring in 0..rings {
        let scale = 1.0 - f64::from(ring) * 0.24;
        let turn = f64::from(ring) * 180.0 / f64::from(petals);
        let (l, w) = (length * scale, width * scale);
        let lightness = 58 + ring * 9;
        let _ = write!(out, "<g fill=\"hsl({hue} 46% {lightness}%)\" fill-opacity=\".88\">");
        for petal in 0..petals {
            let angle = f64::from(petal) * 360.0 / f64::from(petals) + turn;
            let _ = write!(
                out,
                "<path transform=\"translate({x:.1} {y:.1}) rotate({angle:.1})\" d=\"M0 0 C {:.1} \
                 {:.1}, {:.1} {:.1}, 0 {:.1} C {:.1} {:.1}, {:.1} {:.1}, 0 0Z\"/>",
                w,
                -l * 0.25,
                w * point,
                -l * 0.92,
                -l,
                -w * point,
                -l * 0.92,
                -w,
                -l * 0.25,
            );
        }
        out.push_str("</g>");
    }
    let _ = write!(out, "<g fill=\"hsl({heart} 72% 46%)\">");
    for seed in 0..72_u32 {
        // Each seed turns by the golden angle, as in a sunflower.
        let n = f64::from(seed);
        let (angle, radius) = (n * 2.399_963, 2.05 * n.sqrt());
        let _ = write!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.5\"/>",
            x + radius * angle.cos(),
            y + radius * angle.sin(),
        );
    }
    out.push_str("</g></svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_render_has_a_flower_of_its_own() {
        let drawn: std::collections::BTreeSet<String> = (0..100).map(svg).collect();
        assert_eq!(drawn.len(), 100);
        assert_eq!(svg(7), svg(7));
        assert!(drawn.iter().all(|svg| !svg.contains("NaN") && svg.ends_with("</svg>")));
    }
}

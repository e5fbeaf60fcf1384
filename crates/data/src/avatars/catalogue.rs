//! What this project adds to a style's definition: its labels and the variants that training never sees.

/// A style that can be drawn.
pub(super) struct Entry {
    pub name: &'static str,
    pub json: &'static str,
    /// `(variant of component, name)`: parts that the `train` split never draws, three of hair and one of eyes.
    pub barred: &'static [(&'static str, &'static str)],
    /// What a part is called in the label map.
    pub labels: &'static [Rule],
}

/// A label for everything that a component draws, or only for those of its variants that use a palette.
pub(super) struct Rule {
    /// The component; empty for what the canvas itself draws.
    pub component: &'static str,
    /// The palette that a variant has to use; empty for every variant.
    pub palette: &'static str,
    pub label: &'static str,
}

const fn rule(component: &'static str, label: &'static str) -> Rule {
    Rule { component, palette: "", label }
}

const fn rule_if(component: &'static str, palette: &'static str, label: &'static str) -> Rule {
    Rule { component, palette, label }
}

/// Labels are numbered in the order of these rules, after `background` = 0.
pub(super) const CATALOGUE: &[Entry] = &[
    Entry {
        name: "avataaars",
        json: dicebear_styles::AVATAAARS,
        barred: &[("top", "bob"), ("top", "shortCurly"), ("top", "shaggyMullet"), ("eyes", "squint")],
        labels: &[
            rule("", "skin"),
            // The nose is a shadow of 16 % on the skin: it never reaches half opacity.
            rule("nose", "skin"),
            rule("clothes", "clothes"),
            rule("clothesGraphic", "graphic"),
            rule("mouth", "mouth"),
            rule("eyes", "eyes"),
            rule("eyebrows", "eyebrows"),
            rule_if("top", "hair", "hair"),
            rule_if("top", "hat", "hat"),
            rule("facialHair", "facial_hair"),
            rule("accessories", "accessories"),
        ],
    },
    Entry {
        name: "toon-head",
        json: dicebear_styles::TOON_HEAD,
        barred: &[("hair", "spiky"), ("rearHair", "longWavy"), ("rearHair", "neckHigh"), ("eyes", "humble")],
        labels: &[
            rule("body", "skin"),
            rule("head", "skin"),
            rule("clothes", "clothes"),
            rule("mouth", "mouth"),
            rule("beard", "facial_hair"),
            rule("eyes", "eyes"),
            rule("eyebrows", "eyebrows"),
            rule("hair", "hair"),
            rule("rearHair", "hair"),
        ],
    },
    Entry {
        name: "adventurer",
        json: dicebear_styles::ADVENTURER,
        barred: &[("hair", "long05"), ("hair", "long16"), ("hair", "short07"), ("eyes", "variant12")],
        labels: &[
            rule("head", "skin"),
            rule("eyes", "eyes"),
            rule("eyebrows", "eyebrows"),
            rule("mouth", "mouth"),
            rule("details", "details"),
            rule("glasses", "accessories"),
            rule("hair", "hair"),
            rule("earrings", "earrings"),
        ],
    },
];

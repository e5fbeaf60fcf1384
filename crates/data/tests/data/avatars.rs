//! Portraits and their label maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use swinstyle_data::Picture;
use swinstyle_data::avatars::{BACKGROUND, Portrait, PortraitSet, Renderer, Split, Style};
use swinstyle_data::picture::{mse, psnr_from_mse, ssim};

fn portraits(style: &str, size: usize, seed: u64, split: Split) -> PortraitSet {
    let style = Style::named(style).unwrap();
    PortraitSet::new(Renderer::new(&style, size).unwrap(), seed, split, u64::MAX).unwrap()
}

#[test]
fn the_same_seed_draws_the_same_bytes_whatever_was_drawn_before() {
    for style in Style::NAMES {
        let (first, second) = (portraits(style, 48, 5, Split::Heldout), portraits(style, 48, 5, Split::Heldout));
        let forwards: Vec<Picture> = (0..50).map(|i| first.picture(i).unwrap()).collect();
        let mut backwards: Vec<Picture> = (0..50).rev().map(|i| second.picture(i).unwrap()).collect();
        backwards.reverse();
        assert!(forwards == backwards, "{style}");
    }
}

#[test]
fn ssim_of_portraits_is_scikit_images() {
    // structural_similarity of scikit-image 0.26 on the files that `data avatars --split heldout` writes: the first with the second, the second
    // with the third, the first with itself at half the brightness.
    for (size, expected) in [
        (64, [0.44915241684077545, 0.5101699938444075, 0.7247399450293562]),
        (37, [0.2849245540492736, 0.34758607343423503, 0.677234166741762]),
    ] {
        let set = portraits("avataaars", size, 0, Split::Heldout);
        let [a, b, c] = [0, 1, 2].map(|i| set.picture(i).unwrap());
        let mut dark = a.clone();
        dark.rgb.iter_mut().for_each(|byte| *byte /= 2);
        for ((x, y), expected) in [(&a, &b), (&b, &c), (&a, &dark)].into_iter().zip(expected) {
            let found = ssim(&x.to_f32(), &y.to_f32(), size, size, 3).unwrap();
            assert!((found - expected).abs() < 1e-6, "{size}: {found} {expected}");
        }
    }
}

#[test]
fn seeds_splits_and_indices_draw_different_portraits() {
    let style = Style::named("avataaars").unwrap();
    let attributes = |seed, index, split| Portrait::sample(&style, seed, index, split).attributes();
    let base: Vec<_> = (0..20).map(|i| attributes(1, i, Split::Train)).collect();
    assert!(base.windows(2).all(|pair| pair[0] != pair[1]));
    assert!((0..20).all(|i| attributes(2, i, Split::Train) != base[i as usize]));
    assert!((0..20).all(|i| attributes(1, i, Split::Heldout) != base[i as usize]));
}

#[test]
fn the_train_split_never_holds_a_barred_variant_and_heldout_holds_both_kinds() {
    for style in Style::NAMES {
        let style = Style::named(style).unwrap();
        assert_eq!(style.barred_variants().len(), 4, "three of hair, one of eyes");
        let mut seen = BTreeSet::new();
        let mut with_unseen = 0;
        for index in 0..5000 {
            let train = Portrait::sample(&style, 3, index, Split::Train).attributes();
            assert!(train.unseen.is_empty(), "{} {index}: {:?}", style.name(), train.unseen);
            for (component, variant) in &train.components {
                let drawn = format!("{component}:{}", variant.as_deref().unwrap_or("-"));
                assert!(!style.barred_variants().contains(&drawn));
            }
            let heldout = Portrait::sample(&style, 3, index, Split::Heldout).attributes();
            with_unseen += usize::from(!heldout.unseen.is_empty());
            seen.extend(heldout.unseen);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), style.barred_variants(), "each of them occurs");
        assert!((400..4500).contains(&with_unseen), "{}: {with_unseen} of 5000", style.name());
    }
}

#[test]
fn attributes_name_what_is_drawn_and_only_that() {
    let style = Style::named("avataaars").unwrap();
    let (mut graphics, mut hats, mut glasses) = (0, 0, 0);
    for index in 0..2000 {
        let drawn = Portrait::sample(&style, 0, index, Split::Heldout).attributes();
        let is_graphic = drawn.components["clothes"].as_deref() == Some("graphicShirt");
        assert_eq!(drawn.components.contains_key("clothesGraphic"), is_graphic, "a graphic is on a graphic shirt");
        assert_eq!(drawn.colors.contains_key("facialHair"), drawn.components["facialHair"].is_some());
        assert_ne!(drawn.colors.contains_key("hat"), drawn.colors.contains_key("hair"), "hair or a hat");
        assert_ne!(drawn.colors["clothes"], "#b1e2ff", "not to be told from the background");
        graphics += usize::from(is_graphic);
        hats += usize::from(drawn.colors.contains_key("hat"));
        glasses += usize::from(drawn.components["accessories"].is_some());
    }
    // 1 of 9 shirts, 7 of 34 tops, 10 % glasses, each within six standard deviations.
    assert!(
        graphics.abs_diff(222) < 85 && hats.abs_diff(412) < 109 && glasses.abs_diff(200) < 81,
        "{graphics} {hats} {glasses}"
    );
}

#[test]
fn labels_occur_where_their_part_is_drawn_and_nowhere_else() {
    let set = portraits("avataaars", 64, 9, Split::Heldout);
    let labels = set.renderer().style().labels().to_vec();
    let mut occurred = BTreeSet::new();
    for index in 0..1500 {
        let (drawn, mask) = (set.portrait(index).attributes(), set.mask(index).unwrap());
        let present: BTreeSet<&str> =
            mask.labels.iter().map(|&label| labels[usize::from(label)].name.as_str()).collect();
        for always in ["background", "skin", "clothes"] {
            assert!(present.contains(always), "{index}: {always}");
        }
        assert_eq!(present.contains("hair"), drawn.colors.contains_key("hair"), "{index}: hair");
        assert_eq!(present.contains("hat"), drawn.colors.contains_key("hat"), "{index}: hat");
        assert_eq!(present.contains("facial_hair"), drawn.components["facialHair"].is_some(), "{index}: beard");
        assert_eq!(present.contains("accessories"), drawn.components["accessories"].is_some(), "{index}: glasses");
        assert!(!present.contains("graphic") || drawn.components.contains_key("clothesGraphic"), "{index}: graphic");
        occurred.extend(present);
    }
    assert_eq!(occurred.len(), labels.len(), "{occurred:?}");
}

#[test]
fn every_label_of_every_style_occurs() {
    for style in Style::NAMES {
        let set = portraits(style, 96, 2, Split::Heldout);
        let seen: BTreeSet<u8> = (0..400).flat_map(|index| set.mask(index).unwrap().labels).collect();
        let labels = set.renderer().style().labels();
        assert_eq!(seen.len(), labels.len(), "{style}: {seen:?}");
    }
}

#[test]
fn masks_agree_with_the_picture() {
    let set = portraits("avataaars", 128, 4, Split::Train);
    let labels = set.renderer().style().labels().to_vec();
    let hex = |text: &str| [1, 3, 5].map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap());
    let (mut background, mut background_exact, mut skin, mut skin_exact, mut hidden) = (0, 0, 0, 0, 0);
    for index in 0..200 {
        let (picture, mask) = (set.picture(index).unwrap(), set.mask(index).unwrap());
        let skin_color = hex(&set.portrait(index).attributes().colors["skin"]);
        for (pixel, &label) in picture.rgb.chunks_exact(3).zip(&mask.labels) {
            match labels[usize::from(label)].name.as_str() {
                "background" => {
                    background += 1;
                    background_exact += usize::from(pixel == BACKGROUND);
                }
                name => {
                    hidden += usize::from(pixel == BACKGROUND);
                    if name == "skin" {
                        skin += 1;
                        skin_exact += usize::from(pixel == skin_color);
                    }
                }
            }
        }
    }
    // What remains of each are antialiased edges; on the skin also the shadows of neck, nose and hair.
    assert!(background_exact * 100 > background * 96, "{background_exact} of {background}");
    assert!(skin_exact * 100 > skin * 60, "{skin_exact} of {skin}");
    assert_eq!(hidden, 0, "a labelled pixel shows the bare background");
}

#[test]
fn sizes_out_of_range_are_refused_and_odd_sizes_are_drawn() {
    let style = Style::named("avataaars").unwrap();
    assert!(Renderer::new(&style, 7).is_err());
    assert!(Renderer::new(&style, 1 << 20).is_err());
    let picture = Renderer::new(&style, 65).unwrap().render(&Portrait::sample(&style, 0, 0, Split::Train)).unwrap();
    assert_eq!(picture.rgb.len(), 65 * 65 * 3);
}

#[test]
fn an_unknown_style_is_an_error_that_names_the_styles() {
    let error = Style::named("mona-lisa").map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown portrait style `mona-lisa`; the styles are avataaars, toon-head, adventurer"
    );
}

#[test]
fn threads_share_a_renderer_and_draw_the_same() {
    let set = Arc::new(portraits("adventurer", 32, 8, Split::Train));
    let alone: Vec<Picture> = (0..64).map(|i| set.picture(i).unwrap()).collect();
    let fresh = Arc::new(portraits("adventurer", 32, 8, Split::Train));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let fresh = Arc::clone(&fresh);
            std::thread::spawn(move || (0..64).map(|i| fresh.picture(i).unwrap()).collect::<Vec<_>>())
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap() == alone);
    }
}

/// The floor that any model has to beat: this sampler's mean image gives 14.2 dB by the mean error, 14.7 dB by the mean of
/// the images' PSNRs.
#[test]
fn the_mean_training_image_scores_about_14_db_on_held_out_portraits() {
    let (train, heldout) = (portraits("avataaars", 64, 0, Split::Train), portraits("avataaars", 64, 0, Split::Heldout));
    let mut mean = vec![0.0f32; 64 * 64 * 3];
    for index in 0..2000 {
        for (mean, x) in mean.iter_mut().zip(train.picture(index).unwrap().to_f32()) {
            *mean += x / 2000.0;
        }
    }
    let errors: Vec<f64> = (0..300).map(|i| mse(&mean, &heldout.picture(i).unwrap().to_f32()).unwrap()).collect();
    let psnr = psnr_from_mse(errors.iter().sum::<f64>() / 300.0);
    assert!((13.7..14.7).contains(&psnr), "{psnr}");
}

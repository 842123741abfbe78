//! That histograms keep what they count.

use super::*;

fn histogram(schema: i8, zero: (f64, f64), positive: &[(i32, f64)]) -> Histogram {
    let count = zero.1 + positive.iter().map(|one| one.1).sum::<f64>();
    let (zero_threshold, zero_count) = zero;
    let positive = positive.to_vec();
    Histogram::new(Parts {
        schema,
        zero_threshold,
        zero_count,
        count,
        sum: 1.0,
        positive,
        ..Parts::default()
    })
    .unwrap()
}

#[test]
fn what_is_none_is_refused() {
    let with = |schema, positive: &[(i32, f64)], zero_threshold| {
        Histogram::new(Parts { schema, zero_threshold, positive: positive.to_vec(), ..Parts::default() })
            .err()
    };
    assert_eq!(with(0, &[(1, 1.0)], 0.0), None);
    assert_eq!(with(9, &[], 0.0), Some(BadHistogram::Schema(9)));
    assert_eq!(with(0, &[(1, 1.0), (1, 1.0)], 0.0), Some(BadHistogram::Order));
    assert_eq!(with(0, &[(i32::MAX, 1.0)], 0.0), Some(BadHistogram::Order));
    assert_eq!(with(CUSTOM, &[(1, 1.0)], 0.0), Some(BadHistogram::Order));
    assert_eq!(with(0, &[], f64::NAN), Some(BadHistogram::Zero));
    let many: Vec<(i32, f64)> = (0..=10_000).map(|number| (number, 1.0)).collect();
    assert_eq!(with(8, &many, 0.0), Some(BadHistogram::Size));
}

#[test]
fn bounds_are_powers() {
    assert_eq!([-1, 0, 1, 1024].map(|number| bound(0, &[], number)), [0.5, 1.0, 2.0, f64::MAX]);
    assert_eq!([1, 2].map(|number| bound(1, &[], number)), [std::f64::consts::SQRT_2, 2.0]);
    assert_eq!([0, 1].map(|number| bound(-2, &[], number)), [1.0, 16.0]);
    assert_eq!(
        [-1, 0, 1].map(|number| bound(CUSTOM, &[5.0], number)),
        [f64::NEG_INFINITY, 5.0, f64::INFINITY]
    );
}

#[test]
fn sums_keep_all_that_is_counted() {
    let fine = histogram(2, (0.1, 1.0), &[(-9, 4.0), (1, 2.0), (6, 3.0)]);
    let coarse = histogram(0, (0.25, 5.0), &[(1, 1.0), (3, 1.0)]);
    for (one, other) in [(&fine, &coarse), (&coarse, &fine)] {
        let mut total = Total::of(one);
        total.add(other, false).unwrap();
        let sum = total.histogram();
        let counted: f64 = sum.buckets().iter().map(|bucket| bucket.count).sum();
        assert_eq!((sum.parts.schema, sum.parts.zero_threshold), (0, 0.25));
        assert_eq!((sum.parts.count, counted), (17.0, 17.0));
        total.add(other, true).unwrap();
        assert_eq!(total.histogram().parts.count, one.parts.count);
    }
}

#[test]
fn a_zero_bucket_does_not_cut_others() {
    let wide = histogram(0, (0.3, 1.0), &[]);
    let narrow = histogram(0, (0.0, 0.0), &[(-1, 2.0), (0, 1.0)]);
    let mut total = Total::of(&narrow);
    total.add(&wide, false).unwrap();
    let sum = total.histogram();
    assert_eq!((sum.parts.zero_threshold, sum.parts.zero_count), (0.5, 3.0));
    assert_eq!(sum.parts.positive, [(0, 1.0)]);
}

#[test]
fn resets_are_seen() {
    let before = histogram(1, (0.0, 0.0), &[(1, 2.0), (2, 3.0)]);
    let more = histogram(1, (0.0, 0.0), &[(1, 2.0), (2, 4.0)]);
    let moved = histogram(1, (0.0, 0.0), &[(1, 7.0), (2, 1.0)]);
    let coarse = histogram(0, (0.0, 0.0), &[(1, 5.0)]);
    assert!(!more.was_reset(&before) && before.was_reset(&more));
    assert!(moved.was_reset(&before));
    assert!(!coarse.was_reset(&before) && before.was_reset(&coarse));
    assert!(!moved.hinted(Hint::NotReset).was_reset(&before));
    assert!(more.hinted(Hint::Reset).was_reset(&before));
}

#[test]
fn it_is_written() {
    let one = histogram(0, (0.5, 1.0), &[(1, 2.0)]);
    assert_eq!(one.to_string(), "{count:3, sum:1, [-0.5,0.5]:1, (1,2]:2}");
    assert_eq!(one.trimmed(1.0, true).to_string(), "{count:1, sum:0.25, [-0.5,0.5]:1}");
    assert_eq!(one.quantile(1.0).0, 2.0);
    assert_eq!(one.fraction(1.0, 2.0).0, 2.0 / 3.0);
}

//! Branch-free transcendental functions that vectorise.
//!
//! Errors against f64 (tests below): exp ≤ 1.5 ulp, ln ≤ 2 ulp, tanh ≤ 3e-7 relative, erf ≤ 2e-7 absolute and relative near 0.

/// eˣ in f32: x = k·ln 2 + r, a degree-6 polynomial in r, then scaling by 2ᵏ in two steps so that results reach denormals and ∞.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    const LOG2E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: k·HI is exact for |k| < 2^9.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let x = if x > 89.0 { 89.0 } else { x };
    let clamped = if x < -105.0 { -105.0 } else { x };
    let k = (clamped * LOG2E).round_ties_even();
    let r = k.mul_add(-LN2_LO, k.mul_add(-LN2_HI, clamped));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let y = (p * r).mul_add(r, r) + 1.0;
    // Adding 1.5·2²³ leaves the integer in the low bits. `as i32` saturates, and that does not vectorise.
    const MAGIC: f32 = 12_582_912.0;
    let k = ((k + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = k >> 1;
    let a = f32::from_bits(((half + 127) << 23) as u32);
    let b = f32::from_bits(((k - half + 127) << 23) as u32);
    let y = y * a * b;
    if x.is_nan() { x } else { y }
}

/// Natural logarithm in f32: x = m·2ᵉ with m in [√½, √2), then a degree-9 polynomial in m − 1.
#[inline(always)]
pub fn ln_f32(x: f32) -> f32 {
    const MIN_NORMAL: f32 = f32::MIN_POSITIVE;
    let tiny = x < MIN_NORMAL;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // Subtracting the bits of √½ makes the exponent field count from there.
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let e = (shifted as i32) >> 23;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let e = e as f32 - if tiny { 23.0 } else { 0.0 };
    let mut p = 7.037_683_6e-2_f32;
    p = p.mul_add(m, -1.151_461e-1);
    p = p.mul_add(m, 1.167_699_9e-1);
    p = p.mul_add(m, -1.242_014_1e-1);
    p = p.mul_add(m, 1.424_932_3e-1);
    p = p.mul_add(m, -1.666_805_7e-1);
    p = p.mul_add(m, 2.000_071_5e-1);
    p = p.mul_add(m, -2.499_999_4e-1);
    p = p.mul_add(m, 3.333_333_1e-1);
    let z = m * m;
    let y = (p * m).mul_add(z, e.mul_add(-2.121_944_4e-4, -0.5 * z));
    let y = e.mul_add(0.693_359_4, m + y);
    if x > 0.0 && x < f32::INFINITY {
        y
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else if x > 0.0 {
        x
    } else {
        f32::NAN
    }
}

/// tanh x in f32: an odd polynomial below 0.625, 1 − 2/(e²ˣ + 1) above.
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3_f32;
    p = p.mul_add(z, 2.063_908_9e-2);
    p = p.mul_add(z, -5.373_971_5e-2);
    p = p.mul_add(z, 1.333_144_2e-1);
    p = p.mul_add(z, -3.333_328_2e-1);
    let small = (p * z).mul_add(x, x);
    let big = (1.0 - 2.0 / (exp_f32(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { small } else { big }
}

/// Coefficients of erf(x)/x in x²: 2/√π · (−1)ⁿ / (n! (2n+1)).
const ERF_SERIES: [f32; 12] = {
    let mut c = [0.0_f32; 12];
    let mut n = 0;
    let mut factorial = 1.0_f64;
    while n < 12 {
        if n > 0 {
            factorial *= -(n as f64);
        }
        c[n] = (std::f64::consts::FRAC_2_SQRT_PI / (factorial * (2 * n + 1) as f64)) as f32;
        n += 1;
    }
    c
};

/// erf x in f32: the Maclaurin series below 1 (its first omitted term is below 1e-10), and above
/// 1 − t·exp(−x² + q(t)), t = 1/(1 + x/2), Chebyshev-fitted (Press et al., Numerical Recipes §6.2, error below 1.2e-7).
#[inline(always)]
pub fn erf_f32(x: f32) -> f32 {
    let a = x.abs();
    let z = if a < 1.0 { x * x } else { 1.0 };
    let mut small = ERF_SERIES[11];
    for n in (0..11).rev() {
        small = small.mul_add(z, ERF_SERIES[n]);
    }
    let t = 1.0 / 0.5_f32.mul_add(a, 1.0);
    let mut q = 0.170_872_77_f32;
    for c in [
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
    ] {
        q = q.mul_add(t, c);
    }
    let tail = t * exp_f32((-a).mul_add(a, q.mul_add(t, -1.265_512_23)));
    if a < 1.0 { small * x } else { (1.0 - tail).copysign(x) }
}

/// erf x in f64 by 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1)/(2n+1)!!, all of whose terms have one sign.
pub fn erf_f64(x: f64) -> f64 {
    if x.abs() >= 6.0 || x.is_nan() {
        return if x.is_nan() { x } else { 1.0_f64.copysign(x) };
    }
    let mut term = x;
    let mut sum = x;
    let mut n = 1.0;
    while term.abs() > sum.abs() * 1e-17 && n < 500.0 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, range: (f32, f32), floor: f64) -> f64 {
        let n = 200_001;
        (0..n)
            .map(|i| range.0 + (range.1 - range.0) * i as f32 / (n - 1) as f32)
            .map(|x| {
                let e = exact(x as f64);
                (f(x) as f64 - e).abs() / e.abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_two_ulp_and_saturates() {
        assert!(worst(exp_f32, f64::exp, (-87.0, 88.0), 0.0) < 2.4e-7);
        assert_eq!(exp_f32(200.0), f32::INFINITY);
        assert_eq!(exp_f32(-200.0), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
    }

    #[test]
    fn logarithm_matches_on_six_decades_and_at_the_edges() {
        assert!(worst(ln_f32, f64::ln, (1e-6, 1.0), 1e-3) < 3e-7);
        assert!(worst(ln_f32, f64::ln, (1.0, 1e6), 1e-3) < 3e-7);
        assert_eq!(ln_f32(0.0), f32::NEG_INFINITY);
        assert!(ln_f32(-1.0).is_nan());
        assert!((ln_f32(1e-40) as f64 - (1e-40_f32 as f64).ln()).abs() < 1e-4);
    }

    #[test]
    fn tanh_and_erf_match_f64() {
        assert!(worst(tanh_f32, f64::tanh, (-12.0, 12.0), 1e-6) < 4e-7);
        assert!(worst(erf_f32, erf_f64, (-6.0, 6.0), 1e-6) < 4e-7);
        assert!((erf_f64(1.0) - 0.842_700_792_949_714_9).abs() < 1e-15);
        assert!((erf_f64(3.0) - 0.999_977_909_503_001_4).abs() < 1e-15);
    }
}

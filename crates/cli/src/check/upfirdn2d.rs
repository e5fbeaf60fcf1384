//! Resampling by zero insertion, pads, a FIR filter and decimation.

use anyhow::Result;
use swinstyle_models::Layout;
use swinstyle_upfirdn2d::{Upfirdn2d, upfirdn2d};

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    // The file gives x before y, as PyTorch's extensions do; rows come first here.
    let [up_x, up_y]: [usize; 2] = f.get("up_xy")?;
    let [down_x, down_y]: [usize; 2] = f.get("down_xy")?;
    let [x0, x1, y0, y1]: [isize; 4] = f.get("pad_x0x1y0y1")?;
    let params = Upfirdn2d {
        up: [up_y, up_x],
        down: [down_y, down_x],
        pad: [y0, y1, x0, x1],
        flip: f.find("flip_filter")?.unwrap_or(false),
        gain: f.find("gain")?.unwrap_or(1.0),
    };
    let inputs = Inputs::read(f, |name| if name == "x" { Layout::Nchw } else { Layout::Plain })?;
    case::run(f, &inputs, |x| {
        let y = upfirdn2d(x.get("x")?, x.get("f")?, &params)?;
        Ok(vec![Named::new("y", y, Layout::Nchw)])
    })
}

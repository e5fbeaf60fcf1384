//! Resampling by zero insertion, pads, a FIR filter and decimation.

use anyhow::Result;
use swinstyle_models::Layout;
use swinstyle_tensor::grad;
use swinstyle_upfirdn2d::{Upfirdn2d, separate, upfirdn2d, upfirdn2d_separable};

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
    let mut results = case::run(f, &inputs, |x| {
        let y = upfirdn2d(x.get("x")?, x.get("f")?, &params)?;
        Ok(vec![Named::new("y", y, Layout::Nchw)])
    })?;
    // The images of a filter that has factors are compared as those give them; what else the file holds still comes from the whole filter.
    let (x, filter) = (inputs.get("x")?, inputs.get("f")?);
    if filter.shape().len() == 2
        && let Some([column, row]) = separate(filter)?
    {
        let y = upfirdn2d_separable(x, &column, &row, &params)?;
        results.put("out.y".to_string(), &y, Layout::Nchw)?;
        if f.has("grad.x") {
            let cotangent = f.tensor("cot.y", Layout::Nchw)?;
            if let Some(gradient) = &grad(&[(&y, Some(&cotangent))], &[x], false)?[0] {
                results.put("grad.x".to_string(), gradient, Layout::Nchw)?;
            }
        }
    }
    Ok(results)
}

//! Learned queries that attend to tokens, with all four projections.

use anyhow::Result;
use swinstyle_models::Layout;
use swinstyle_query_attention::{QueryAttention, query_attention};

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    let inputs = Inputs::read(f, |_| Layout::Plain)?;
    let channels = inputs.get("queries")?.shape().last().copied().unwrap_or_default();
    let mut attention = QueryAttention::new(f.get("heads")?, channels);
    attention.scale = f.find("scale")?.unwrap_or(attention.scale);
    case::run(f, &inputs, |x| {
        let project = |x_name: &str, to: &str| -> Result<_> {
            Ok(x.get(x_name)?.linear(x.get(&format!("w{to}"))?, x.find(&format!("b{to}")))?)
        };
        let (q, k, v) = (project("queries", "q")?, project("tokens", "k")?, project("tokens", "v")?);
        let (o, lse) = query_attention(&q, &k, &v, x.find("bias"), &attention)?;
        let y = o.linear(x.get("wo")?, x.find("bo"))?;
        Ok(vec![Named::new("y", y, Layout::Plain), Named::new("lse", lse, Layout::Plain)])
    })
}

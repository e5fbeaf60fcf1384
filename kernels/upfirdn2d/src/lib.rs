//! swinstyle-upfirdn2d.

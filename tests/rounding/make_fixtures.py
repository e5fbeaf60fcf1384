#!/usr/bin/env python3
"""Write the fixtures of right results that a tolerance from one draw of float32's rounding calls wrong.

plain_sums   a plain convolution of 7x7 taps, whose gradient of the style PyTorch's blocked sums round four times less than plain sums
kink         a styled layer with a bias that brings one pixel of each channel within 4e-9 of the activation's kink

run:  python make_fixtures.py OUTDIR        (needs what ../golden/make_golden.py needs)
"""
import math, os, sys
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from make_golden import Rng, case, fir, modconv


def plain_sums():
    r = Rng("modconv/k7p_s2")
    inp = {"x": r.n(1, 1, 9, 9), "w": r.n(64, 1, 7, 7), "s": r.n(1, 1, std=0.5, mean=1.0), "f": fir([1., 3., 3., 1.])}
    params = dict(up=1, down=1, demodulate=False, eps=1e-8, weight_gain=1.0 / 7)
    case("modconv/plain_sums", params, inp, lambda x: {"y": modconv(x["x"], x["w"], x["s"], x["f"], demod=False)}, diff=("x", "w", "s"), rng=r)


def kink():
    r = Rng("modconv/styled_layer_kink_2")
    inputs, outputs, size, width = 16, 4, 4, 8
    inp = {"x": r.n(1, inputs, size, size), "wlat": r.n(1, width), "affine_w": r.n(inputs, width), "affine_b": r.n(inputs, std=0.1, mean=1.0),
           "w": r.n(outputs, inputs, 3, 3), "noise": r.n(1, 1, size, size), "noise_strength": r.n(1), "bias": r.n(outputs, std=0.2)}

    def z(x):
        s = x["wlat"] @ (x["affine_w"] / math.sqrt(width)).T + x["affine_b"]
        y = modconv(x["x"], x["w"], s, fir([1., 3., 3., 1.], x["x"].dtype)) + x["noise_strength"] * x["noise"]
        return y + x["bias"][None, :, None, None]

    inp["bias"] = torch.zeros(outputs)
    inp["bias"][:] = -z({k: v.double() for k, v in inp.items()})[0, :, 1, 2].float()
    fn = lambda x: {"y": F.leaky_relu(z(x), 0.2) * math.sqrt(2)}
    case("modconv/kink", dict(slope=0.2, gain=math.sqrt(2)), inp, fn, diff=tuple(inp), dd=["x", "wlat"], rng=r)


if __name__ == "__main__":
    plain_sums()
    kink()

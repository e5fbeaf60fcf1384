"""Random networks with the tensor names of torchvision, LPIPS and pSp's ArcFace, and what PyTorch computes with them in float64.

    python crates/models/tests/foreign/make_fixtures.py crates/models/tests/foreign

writes, for each network, NAME.weights.safetensors (as its publisher's file, with few channels) and NAME.safetensors: results of
both images, and the gradient's samples, with the error that plain float32 makes. Images come from their names by the
formula of `swinstyle_kit::testing::hash_uniform`, so that no file holds them.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(1)


def hash_uniform(name, shape):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & (2**64 - 1)
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0
    return torch.from_numpy(u.reshape(shape))


def image(name, size):
    """[N, 3, H, W] of a name whose numbers are laid out as NHWC."""
    return hash_uniform(name, (2, size, size, 3)).permute(0, 3, 1, 2)


class Trunk(nn.Module):
    """torchvision's `features` of AlexNet or VGG16 with other widths, and the indices after which LPIPS looks."""

    def __init__(self, kind, widths):
        super().__init__()
        layers, taps, at = [], [], 3
        w = iter(widths)
        if kind == "alex":
            for k, s, p, pool in [(11, 4, 2, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 1, False), (3, 1, 1, True)]:
                c = next(w)
                layers += [nn.Conv2d(at, c, k, s, p), nn.ReLU()]
                taps.append(len(layers) - 1)
                if pool:
                    layers.append(nn.MaxPool2d(3, 2))
                at = c
        else:
            for count in [2, 2, 3, 3, 3]:
                c = next(w)
                for _ in range(count):
                    layers += [nn.Conv2d(at, c, 3, 1, 1), nn.ReLU()]
                    at = c
                taps.append(len(layers) - 1)
                layers.append(nn.MaxPool2d(2, 2))
        self.features, self.taps = nn.Sequential(*layers), taps

    def forward(self, x):
        out = []
        # The trunks' last pooling is not part of LPIPS.
        for i, layer in enumerate(self.features[: self.taps[-1] + 1]):
            x = layer(x)
            if i in self.taps:
                out.append(x)
        return out


class Lpips(nn.Module):
    def __init__(self, kind, widths):
        super().__init__()
        self.trunk = Trunk(kind, widths)
        self.heads = nn.ParameterList([nn.Parameter(torch.rand(1, c, 1, 1)) for c in widths])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, x, y):
        def normalised(f):
            return f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10)

        fx, fy = self.trunk((x - self.shift) / self.scale), self.trunk((y - self.shift) / self.scale)
        per_image = sum(
            F.conv2d((normalised(a) - normalised(b)).square(), h).mean((2, 3)).squeeze(1)
            for a, b, h in zip(fx, fy, self.heads)
        )
        return per_image.mean()

    def stored(self, style):
        names = {k.removeprefix("trunk."): v for k, v in self.trunk.state_dict(prefix="trunk.").items()}
        key = "lin{}.model.1.weight" if style == "published" else "lin{}.weight"
        names.update({key.format(i): h.data for i, h in enumerate(self.heads)})
        return names


class SqueezeExcite(nn.Module):
    def __init__(self, c, r):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, c // r, 1, bias=False), nn.Conv2d(c // r, c, 1, bias=False)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class UnitIrSe(nn.Module):
    def __init__(self, i, o, stride, reduction):
        super().__init__()
        if i == o:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.PReLU(o), nn.Conv2d(o, o, 3, stride, 1, bias=False),
            nn.BatchNorm2d(o), SqueezeExcite(o, reduction),
        )

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class ArcFace(nn.Module):
    def __init__(self, stem, stages, embedding, reduction):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem))
        units, at = [], stem
        for width, count in stages:
            for k in range(count):
                units.append(UnitIrSe(at, width, 2 if k == 0 else 1, reduction))
                at = width
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(at), nn.Dropout(0.6), nn.Flatten(), nn.Linear(at * 49, embedding), nn.BatchNorm1d(embedding)
        )

    def embed(self, x):
        size = x.shape[2]
        (y0, y1), (x0, x1) = [[int(np.floor(e * size / 256 + 0.5)) for e in ends] for ends in ((35, 223), (32, 220))]
        x = F.adaptive_avg_pool2d(x[:, :, y0:y1, x0:x1], (112, 112))
        x = self.output_layer(self.body(self.input_layer(x)))
        return x / x.norm(2, 1, keepdim=True)

    def forward(self, x, y):
        return (1 - (self.embed(x) * self.embed(y)).sum(1)).mean()


def randomise(net):
    """Weights of a size at which every layer matters, and statistics of batch norms that are not the fresh ones."""
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                fan = m.weight[0].numel()
                m.weight.normal_(0, (2.0 / fan) ** 0.5)
                if m.bias is not None:
                    m.bias.normal_(0, 0.1)
            elif isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.2)
                m.running_mean.normal_(0, 0.2)
                m.running_var.uniform_(0.5, 2.0)
            elif isinstance(m, nn.PReLU):
                m.weight.uniform_(0.05, 0.4)
    return net.eval()


def results(net, size, dtype):
    net = net.to(dtype)
    x, y = (image(f"{k}{size}", size).to(dtype) for k in "xy")
    x.requires_grad_()
    loss = net(x, y)
    (gradient,) = torch.autograd.grad(loss, x)
    step = max(size // 16, 1)
    out = {f"loss{size}": loss.detach().view(1), f"gradient{size}": gradient[:, :, ::step, ::step].contiguous()}
    if hasattr(net, "embed"):
        out[f"embedding{size}"] = net.embed(x).detach()
    return out


def write(folder, name, net, weights, sizes):
    save_file({k: v.detach().float().contiguous() for k, v in weights.items()}, folder / f"{name}.weights.safetensors")
    exact, plain = {}, {}
    for size in sizes:
        exact |= results(net, size, torch.float64)
        plain |= results(net, size, torch.float32)
    errors = {k: [float((plain[k].double() - v).abs().max()), float(v.abs().max())] for k, v in exact.items()}
    about = {"case": f"foreign/{name}", "params": "{}", "f32_err": json.dumps(errors)}
    save_file({k: v.float().contiguous() for k, v in exact.items()}, folder / f"{name}.safetensors", about)
    print(name, {k: f"{v[0]:.1e} of {v[1]:.1e}" for k, v in errors.items()})


def main():
    folder = Path(sys.argv[1])
    alex = randomise(Lpips("alex", [4, 6, 8, 5, 3]))
    write(folder, "lpips_alex", alex, alex.stored("published"), [64, 37])
    vgg = randomise(Lpips("vgg", [3, 4, 5, 6, 4]))
    write(folder, "lpips_vgg", vgg, vgg.stored("bare"), [32])
    face = randomise(ArcFace(4, [(4, 2), (6, 1), (8, 2), (10, 1)], 12, 2))
    write(folder, "arcface", face, {k: v for k, v in face.state_dict().items()}, [256, 64])


main()

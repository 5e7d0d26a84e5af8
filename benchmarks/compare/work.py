# SPDX-License-Identifier: Apache-2.0
# What each computation cannot do without: operations (two per multiply-add), bytes (every input read once, every output
# written once), exponentials and GELUs, and by how much the best algorithm divides the operations. Of what else only moves memory
# the passes, too: bytes that each reads and writes elsewhere, and the GELUs it takes, when all of one has to be over before the
# next. Bounds, not estimates: where in doubt less is counted.
import math

WINOGRAD = 4  # F(4x4, 3x3) in two axes: 36 products for 16 outputs of 9 taps each


def needs(operations=0.0, numbers=0.0, reduction=1.0, exponentials=0.0, gelus=0.0):
    return {"operations": float(operations), "reduction": float(reduction), "bytes": 4.0 * numbers,
            "exponentials": float(exponentials), "gelus": float(gelus)}


def in_passes(*passes):
    """Each: numbers read, numbers written, GELUs."""
    return {**needs(numbers=sum(r + w for r, w, _ in passes), gelus=sum(g for _, _, g in passes)),
            "passes": [[4.0 * r, 4.0 * w, float(g)] for r, w, g in passes]}


def conv3d(kind, size, c_in, c_out, kernel, stride, groups):
    """Padding kernel // 2. A step is forward and both gradients, without that of an image."""
    out = math.prod((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in size)
    weights = kernel**3 * c_in // groups * c_out
    passes = 1 if kind == "forward" else 2 if c_in == 1 else 3
    x, y = math.prod(size) * c_in, out * c_out
    numbers = x + y + weights
    if kind != "forward":
        numbers += y + weights + (x if c_in > 1 else 0)
    return needs(2.0 * passes * out * weights, numbers, WINOGRAD if kernel == 3 and stride == groups == 1 else 1)


def window_pairs(side, window, shift):
    """Pairs of a query and a key that see each other: per axis, then cubed. Padding gives keys but asks nothing."""
    padded = -(-side // window) * window

    def keys(rolled):  # in the last window a shift leaves two regions
        if not shift or rolled < padded - window:
            return window
        return window - shift if rolled < padded - shift else shift

    return sum(keys((p - shift) % padded) for p in range(side)) ** 3


def window_attention(kind, side, channels, heads, window, shift):
    """Norm to residual: two products per pair and channel, four more backwards; four linear layers of C to C."""
    tokens, pairs = side**3, window_pairs(side, window, shift)
    times = 1 if kind == "forward" else 3
    linear, weights = 8.0 * tokens * channels**2, 4 * channels**2
    numbers = (2 * tokens * channels + weights) * (1 if kind == "forward" else 2)
    return needs(times * (linear + 4.0 * pairs * channels), numbers, exponentials=pairs * heads)


def attention(kind, batch, tokens, channels, heads):
    times = 1 if kind == "forward" else 3
    numbers = 4 * batch * tokens * channels * (1 if kind == "forward" else 2)
    return needs(times * 4.0 * batch * tokens**2 * channels, numbers, exponentials=batch * heads * tokens**2)


def linear(rows, n, m, gelu=False):
    return needs(2.0 * rows * n * m, rows * (n + m) + n * m, gelus=rows * m if gelu else 0)


def mlp(kind, rows, width, hidden):
    times = 1 if kind == "forward" else 3
    return needs(times * 4.0 * rows * width * hidden, (2 * rows * width + 2 * width * hidden) * (1 if times == 1 else 2),
                 gelus=rows * hidden)


def pointwise(kind, inputs, outputs, gelus=0):
    """Activations, pooling, norms of short rows: memory and GELUs, whose slopes cost as much at least. A step also reads the
    output's gradient and writes those of the inputs."""
    return in_passes((inputs, outputs, gelus), *([(outputs, inputs, gelus)] if kind != "forward" else []))


def norm_passes(kind, skip):
    """Norms over whole volumes, larger than a core's own caches: nothing can be normalised before all of x was read, so it is read
    twice. Backwards two sums over everything come first: the gradient, x (at least where it was picked) and a shortcut, by which
    the activation's slope is known, are read; then x and the gradient again. Arrays that each pass reads and writes."""
    skips, gskips = (["skip"], ["gskip"]) if skip else ([], [])
    passes = [(["x"], []), (["x", *skips], ["y"])]
    if kind != "forward":
        passes += [(["gy", "x", *skips], []), (["x", "gy"], ["gx", *gskips])]
    return passes


def norm(kind, x, others, outputs, gelus=0):
    """The numbers of norm_passes; where less comes out than goes in, as much of x as was picked is read backwards at first. The
    sums there need the slopes of GELUs."""
    passes = [(x, 0, 0), (x + others, outputs, gelus)]
    if kind != "forward":
        passes += [(outputs + min(x, outputs) + others, 0, gelus), (x + outputs, x + others, 0)]
    return in_passes(*passes)


def augment(n):
    """Seven blends of three operations, gamma's logarithm and power; gamma needs the range, so what is resampled is read again
    and written again."""
    return needs(21.0 * n, 4 * n, exponentials=2 * n)


def info_nce(batch, width, length):
    """Logits and the gradient of the queries."""
    return needs(4.0 * batch * length * width, length * width, exponentials=batch * length)


def update(n):
    """Gradient twice: its norm decides what the update does. Weights, both moments and the average are read and written."""
    return needs(numbers=(2 + 4 * 2) * n)


class Convolutions:
    """Counts the convolutions of a network while it runs forward once: operations of a step, and the least of them."""

    def __init__(self, network, kind):
        self.all = self.least = 0.0
        self.hooks = [m.register_forward_hook(self.count) for m in network.modules() if isinstance(m, kind)]

    def count(self, module, inputs, output):
        kernel, stride = module.kernel_size, module.stride
        passes = 2 if module.in_channels == 1 else 3
        operations = 2.0 * passes * output.numel() * math.prod(kernel) * module.in_channels / module.groups
        reduced = tuple(kernel) == (3, 3, 3) and tuple(stride) == (1, 1, 1) and module.groups == 1
        self.all += operations
        self.least += operations / (WINOGRAD if reduced else 1)

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def umbra(convolutions, size=48, width=48, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7):
    """A step of UMBRA's autoencoder: counted convolutions; window attention, feed-forward layers and merging by formula. Of its
    bytes only the weights, their gradients and moments are counted."""
    operations, exponentials = 0.0, 0.0
    for stage, (depth, h) in enumerate(zip(depths, heads)):
        side, c = size // 2**stage, width * 2**stage
        w = min(window, side)
        for block in range(depth):
            shift = window // 2 if block % 2 and side > window else 0
            a = window_attention("step", side, c, h, w, shift)
            operations += a["operations"] + 3 * 4.0 * side**3 * c * 4 * c
            exponentials += a["exponentials"]
        operations += 3 * 2.0 * (side // 2) ** 3 * (8 * c) * (2 * c)
    total, least = operations + convolutions.all, operations + convolutions.least
    return needs(total, 0, total / least, exponentials)

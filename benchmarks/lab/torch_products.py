"""What PyTorch's products reach on the shapes of `cuda_products` (docs/performance/products.md):
bf16 by cuBLAS, e4m3 by torch._scaled_mm with scales of rows and columns, with sums left to the
tensor cores (fast) and added up in float32 (exact). TFLOP/s, the median of nine runs.

    python3 torch_products.py [ROWS...]     default: 2048 4096; needs PyTorch with CUDA
"""

import sys

import torch

SHAPES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
COPIES = 3  # of the weights, which take turns
LAUNCHES, RUNS = 8, 9
PAUSE = 20_000_000  # cycles between runs, for the clock to recover


def microseconds(launch):
    for _ in range(3):
        launch(0)
    torch.cuda.synchronize()
    times = []
    for _ in range(RUNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for i in range(LAUNCHES):
            launch(i)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / LAUNCHES * 1e3)
        torch.cuda._sleep(PAUSE)
    return sorted(times)[RUNS // 2]


def main():
    rows_list = [int(argument) for argument in sys.argv[1:]] or [2048, 4096]
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    for name, (outputs, inputs) in SHAPES.items():
        weights = [
            torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16) for _ in range(COPIES)
        ]
        coded = [weight.to(torch.float8_e4m3fn) for weight in weights]
        for rows in rows_list:
            x = torch.randn(rows, inputs, device="cuda").bfloat16()
            codes = x.to(torch.float8_e4m3fn)
            row_scale = torch.rand(rows, 1, device="cuda") + 0.5
            column_scale = torch.rand(1, outputs, device="cuda") + 0.5

            def scaled(i, fast):
                torch._scaled_mm(
                    codes, coded[i % COPIES].t(), row_scale, column_scale,
                    out_dtype=torch.bfloat16, use_fast_accum=fast,
                )

            rate = 2e-6 * rows * outputs * inputs
            bf16 = rate / microseconds(lambda i: x @ weights[i % COPIES].t())
            fast = rate / microseconds(lambda i: scaled(i, True))
            exact = rate / microseconds(lambda i: scaled(i, False))
            print(
                f"{name:8} rows {rows:5}  bf16 {bf16:5.0f}  "
                f"e4m3 fast {fast:5.0f}  exact {exact:5.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

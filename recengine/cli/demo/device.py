"""Screen 9: where the encoder runs, and why; a device is given or refused, never pretended."""

from __future__ import annotations

from recengine.cli.demo.stage import Stage
from recengine.cli.demo.training import NAME, Trained


def show(stage: Stage, trained: Trained) -> None:
    """Tell the encoder's device, and ask for CUDA by name."""
    from recengine import DeviceError, TextEncoder

    stage.lesson(
        'onnxruntime falls back to the CPU without a word. Here `device="cuda"` is given wholly '
        'or refused with the reason; `device="auto"` may fall back, and says why.'
    )
    encoder = trained.encoder
    stage.console.print('[bold]device="auto"[/bold] gave ' + f"[bold green]{encoder.device}[/]:")
    stage.console.print(f"  {encoder.reason}", markup=False)
    stage.console.print()
    try:
        asked = TextEncoder.open(NAME, device="cuda")
    except DeviceError as error:
        stage.console.print('[bold]device="cuda"[/bold] was [bold yellow]refused[/]:')
        stage.console.print(f"  DeviceError: {error}", markup=False)
    else:
        stage.console.print(f'[bold]device="cuda"[/bold] gave [bold green]{asked.device}[/].')
    stage.console.print()
    stage.note("`recengine doctor` tries every device of this machine.")

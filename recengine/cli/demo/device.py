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
    stage.say(('device="auto"', "bold"), " gave ", (encoder.device, "bold green"), ":")
    stage.remark(encoder.reason)
    stage.console.print()
    try:
        asked = TextEncoder.open(NAME, device="cuda")
    except DeviceError as error:
        stage.say(('device="cuda"', "bold"), " was ", ("refused", "bold yellow"), ":")
        stage.remark(f"DeviceError: {error}")
    else:
        stage.say(('device="cuda"', "bold"), " gave ", (asked.device, "bold green"), ".")
    stage.console.print()
    stage.note("`recengine doctor` tries every device of this machine.")

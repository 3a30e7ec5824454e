"""Check that this machine reproduces a bundle's golden codes and answer."""

from __future__ import annotations

from pathlib import Path

import click

from waistline_hostctl.console import grid, indented
from waistline_hostctl.options import App, common
from waistline_hostctl.results import VerifyResult


@click.command(epilog="Exit code 5 when it does not.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", metavar="NAME", help="Engine (default: of the node in the bench file).")
@common
def command(app: App, bundle: Path, backend: str | None) -> None:
    """Check that this machine reproduces a bundle's golden codes and answer."""
    from waistline.verify import verify

    bench = app.bench(node_backend=backend).bench
    report = verify(bundle, backend=bench.node.backend)
    rows = [
        (check.name, check.verdict, str(check.different), str(check.codes), str(check.largest_step))
        for check in report.tensors
    ]
    answer = "identical" if report.answer_identical else f"agrees {report.answer_agrees:.3f}"
    rows.append(("answer", answer, "", "", ""))
    engine = ", ".join(f"{key} {value}" for key, value in report.engine.items())
    app.console.say(grid(("", "verdict", "different", "codes", "largest step"), rows, indent=0))
    app.console.say(f"\n{'ok' if report.ok else 'FAILED'}  {bundle}  id {report.bundle_id[:12]}")
    app.console.say(indented(f"{engine}, codec {report.codec}", indent=4))
    app.console.emit(VerifyResult(bundle=str(bundle), ok=report.ok, report=report))
    if not app.console.json:
        report.raise_if_failed()
    elif not report.ok:
        click.get_current_context().exit(5)

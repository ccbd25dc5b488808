"""``firstray``: one command line. Subcommands import what they need when they run, so each starts fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from firstray.hospital import register
from firstray.training import DEFAULT_CACHE, CacheOption, DataOption, train_app
from shared.errors import FirstRayError

app = typer.Typer(
    help="Reads a chest radiograph offline: the likeliest of 13 findings, and where they are. Research use only; "
    "not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
release_app = typer.Typer(help="Sign and verify model releases.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(release_app, name="release")
register(app)

ReleaseOption = Annotated[
    Optional[Path], typer.Option("--release", help="Folder of the model release; the installed one if not given.")
]
PrevalenceOption = Annotated[
    Optional[Path],
    typer.Option(
        "--prevalence",
        help="TOML file of the site's own prevalences; the release's if not given.",
        envvar="FIRSTRAY_PREVALENCE",
    ),
]


def main() -> None:
    """Run the command line; an error FirstRay raises on purpose is printed with its code, never as a traceback."""
    try:
        app()
    except FirstRayError as error:
        print(f"Error [{error.code}]: {error}", file=sys.stderr)
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        from shared.version import VERSION

        print(f"firstray {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every subcommand."""


@app.command()
def diagnose(
    files: Annotated[list[Path], typer.Argument(metavar="FILES_OR_FOLDERS...", show_default=False)],
    release: ReleaseOption = None,
    precision: Annotated[
        Optional[str], typer.Option(help="int8, fp16 or fp32; what suits this machine if not given.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="auto, litert or onnx; auto measures which is faster here.")] = "auto",
    min_score: Annotated[
        Optional[float], typer.Option(min=0.0, max=1.0, help="Replaces the release's box thresholds.")
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="Write each boxed image into this folder.")] = None,
    image_format: Annotated[str, typer.Option("--format", help="Format of the boxed images: jpg or png.")] = "jpg",
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and file.")] = False,
    force: Annotated[bool, typer.Option(help="Read also what the quality gate refuses.")] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Set upright, or swap black and white, where the gate finds it needed.")
    ] = False,
    threads: Annotated[Optional[int], typer.Option(min=1, help="Threads of the models; the machine's cores.")] = None,
    prevalence: PrevalenceOption = None,
    language: Annotated[str, typer.Option(help="Language of the labels on boxed images: en or ko.")] = "en",
) -> None:
    """Read radiographs: DICOM, JPEG, PNG or TIFF files, or folders of them."""
    from firstray.diagnose import Options, run
    from shared.prevalence import load_prevalence

    chosen = Options(
        release=release,
        precision=_one_of("--precision", precision, "int8", "fp16", "fp32"),
        runtime=_one_of("--runtime", runtime, "auto", "litert", "onnx"),
        min_score=min_score,
        out=out,
        image_format=_one_of("--format", image_format, "jpg", "png"),
        json_lines=json_lines,
        force=force,
        correct=correct,
        threads=threads,
        prevalence=load_prevalence(prevalence) if prevalence else None,
        language=_one_of("--language", language, "en", "ko"),
    )
    raise typer.Exit(run(files, chosen))


def _one_of(option: str, value: Any, *allowed: str) -> Any:
    """``value`` if it is None or allowed; otherwise typer's usage error."""
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"must be one of {', '.join(allowed)}", param_hint=option)
    return value


@app.command()
def edge(
    files: Annotated[Optional[list[Path]], typer.Argument(metavar="[FILES...]", show_default=False)] = None,
    store: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of the encrypted records; the user's data folder if not given.", envvar="FIRSTRAY_STORE"
        ),
    ] = None,
    release: ReleaseOption = None,
    prevalence: PrevalenceOption = None,
    language: Annotated[Optional[str], typer.Option(help="en or ko; as last chosen in the app if not given.")] = None,
    theme: Annotated[Optional[str], typer.Option(help="dark or light; as last chosen in the app if not given.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No screen: receive, read, store and send.")] = False,
    pin_file: Annotated[
        Optional[Path], typer.Option(help="File of the PIN, for --headless; else the systemd credential firstray-pin.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Sample patients, and the sample radiograph sent to the own DICOM port.")
    ] = False,
    port: Annotated[Optional[int], typer.Option(min=0, max=65535, help="TCP port of the DICOM receiver.")] = None,
    ae_title: Annotated[Optional[str], typer.Option(help="AE title of the DICOM receiver.")] = None,
    host: Annotated[Optional[str], typer.Option(help="Address the DICOM receiver listens on.")] = None,
    receive: Annotated[bool, typer.Option("--receive/--no-receive", help="Whether to receive by DICOM.")] = True,
    hot_folder: Annotated[Optional[Path], typer.Option(help="Take radiographs from this folder too.")] = None,
    hospital: Annotated[
        Optional[Path], typer.Option(help="JSON file of the hospital to send to; remembered from then on.")
    ] = None,
    enrol: Annotated[
        Optional[tuple[str, str]],
        typer.Option(
            "--enrol",
            metavar="URL CODE",
            help="Have the hospital at URL take this device on, by the code its admin page shows, then end. "
            "The PIN comes from --pin-file, or is asked.",
        ),
    ] = None,
) -> None:
    """The paramedic's app: receives, reads, keeps and sends radiographs (needs the extra 'edge')."""
    from firstray.edge import Options, run

    chosen = Options(
        files=tuple(files or ()),
        store=store,
        release=release,
        prevalence=prevalence,
        language=_one_of("--language", language, "en", "ko"),
        theme=_one_of("--theme", theme, "dark", "light"),
        headless=headless,
        pin_file=pin_file,
        demo=demo,
        port=port,
        ae_title=ae_title,
        host=host,
        receive=receive,
        hot_folder=hot_folder,
        hospital=hospital,
        enrol=enrol,
    )
    raise typer.Exit(run(chosen))


@app.command()
def demo(
    release: ReleaseOption = None,
    out: Annotated[Path, typer.Option(help="Folder of the boxed image.")] = Path("results"),
) -> None:
    """Read the sample radiograph of the package pydicom-data: in the window where there is a display, else printed."""
    from firstray.demo import run

    raise typer.Exit(run(release, out))


@app.command()
def evaluate(
    data: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of labels.csv, images/ and, if there are any, boxes.csv; FIRSTRAY_DATA if not given.",
            envvar="FIRSTRAY_DATA",
        ),
    ] = None,
    release: ReleaseOption = None,
    precision: Annotated[
        Optional[str],
        typer.Option(help="int8, fp16 or fp32: the variant reported on; what suits this machine if not given."),
    ] = None,
    runtime: Annotated[str, typer.Option(help="auto, litert or onnx; auto measures which is faster here.")] = "auto",
    patients: Annotated[
        str,
        typer.Option(help="unseen (in no training), new (unseen, and not for calibration either), validation, or all."),
    ] = "unseen",
    split: Annotated[Optional[Path], typer.Option(help="Folds the release was trained by; those of its maker.")] = None,
    fold: Annotated[int, typer.Option(help="The validation fold of the split.")] = 0,
    compare: Annotated[bool, typer.Option(help="Compare with every other variant that runs here.")] = True,
    threads: Annotated[Optional[int], typer.Option(min=1, help="Threads of the models; the machine's cores.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of report.html, figures.json, per_image.csv.")] = Path("evaluation"),
    json_object: Annotated[bool, typer.Option("--json", help="Print all figures as one JSON object.")] = False,
) -> None:
    """Measure a release on labelled radiographs: figures with intervals, and a report (needs the extra 'evaluate')."""
    try:
        from training.evaluation.run import Options, run
    except ModuleNotFoundError as error:
        raise FirstRayError(
            "extra_missing",
            f"Evaluating needs {error.name}, which is not installed.",
            "pip install 'firstray[evaluate]'",
        ) from None

    chosen = Options(
        data=data,
        release=release,
        precision=_one_of("--precision", precision, "int8", "fp16", "fp32"),
        runtime=_one_of("--runtime", runtime, "auto", "litert", "onnx"),
        patients=_one_of("--patients", patients, "unseen", "new", "validation", "all"),
        split=split,
        fold=fold,
        compare=compare,
        threads=threads,
        out=out,
        json_object=json_object,
    )
    run(chosen)


@app.command()
def convert(
    key: Annotated[Path, typer.Option(help="Signing key (firstray release keygen).")],
    release_id: Annotated[str, typer.Option("--id", help="Id of the release, its folder under --weights.")],
    classifier: Annotated[Path, typer.Option()] = Path("runs/classifier/classifier.safetensors"),
    detector: Annotated[Path, typer.Option()] = Path("runs/detector/detector.safetensors"),
    gate: Annotated[Path, typer.Option(help="Output folder of 'train gate'.")] = Path("runs/gate"),
    recipe: Annotated[Path, typer.Option(help="The classifier's recipe.")] = Path("training/recipes/classifier.toml"),
    data: DataOption = None,
    weights: Annotated[Path, typer.Option(help="Where releases are kept.")] = Path("weights"),
    classifier_side: Annotated[
        Optional[int], typer.Option(help="Input side in pixels; that of the recipe's last stage if not given.")
    ] = None,
    detector_side: Annotated[
        Optional[int], typer.Option(help="The same, a multiple of 32; the side it was trained at if not given.")
    ] = None,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Turn trained weights into a signed release: ONNX fp32, fp16, int8 and LiteRT int8, with a parity report."""
    from converters.release_bundle import Ingredients, build_release
    from shared.release import read_private_key
    from training.tables import data_folder

    ingredients = Ingredients.from_recipe(
        recipe,
        classifier=classifier,
        detector=detector,
        gate=gate,
        data=data_folder(data),
        cache=cache,
        classifier_side=classifier_side,
        detector_side=detector_side,
    )
    print(build_release(ingredients, release_id, weights, read_private_key(key)))


@app.command("convert-keras")
def convert_keras(
    model: Annotated[Path, typer.Argument(help="A Keras 3 file: one RGB image in, one sigmoid a finding out.")],
    out: Annotated[Path, typer.Argument(help="The .tflite file to write; the parity report lands beside it.")],
    data: DataOption = None,
    split: Annotated[Path, typer.Option(help="File of folds.")] = Path("training/folds/cxr.csv"),
    fold: Annotated[int, typer.Option(help="Its patients judge, the others calibrate.")] = 0,
    white: Annotated[float, typer.Option(help="What the model expects for white: 255, or 1.")] = 255.0,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Turn a Keras EfficientNet into LiteRT int8 with a parity report (needs the extra 'tensorflow')."""
    from converters.keras_route import convert_keras_file
    from training.tables import data_folder

    print(convert_keras_file(model, data_folder(data), split, fold, cache, out, white).read_text())


@release_app.command("keygen")
def release_keygen(
    private: Annotated[Path, typer.Argument(help="Where the signing key goes. Keep it out of any repository.")],
    public: Annotated[Path, typer.Argument(help="Where the public key goes, e.g. shared/trusted_keys/NAME.pem.")],
) -> None:
    """Make an Ed25519 key pair for signing releases."""
    from shared.release import make_key

    make_key(private, public)
    print(f"Signing key: {private} (keep it secret)\nPublic key: {public}")


@release_app.command("verify")
def release_verify(folder: Annotated[Optional[Path], typer.Argument(show_default=False)] = None) -> None:
    """Verify hashes and signature of a release, and print what it holds."""
    from shared.release import default_release, load_release

    manifest = load_release(folder or default_release()).manifest
    variants = ", ".join(variant.id for variant in manifest.variants)
    print(f"{manifest.id}: {len(manifest.files)} files verified, signature trusted. Variants: {variants}")

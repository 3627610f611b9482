"""The command line: one door per verb, parsing only; what a verb does is written in pipelines/ and the rooms below."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deepassay import __version__
from deepassay.errors import AssayError, ConfigError

# verb -> (module with add_arguments(parser) and main(args) -> int, one line of help)
PLAIN = {
    "screen": ("deepassay.screening.command", "give a verdict on files with an exported bundle (no torch needed)"),
    "calibrate": ("deepassay.screening.site", "fix a threshold on your own genuine files, for screening at your site"),
    "serve": ("deepassay.screening.server", "answer over HTTP: upload a file, get its verdicts"),
    "bundle": ("deepassay.screening.bundle_command", "show, verify and compare exported bundles"),
    "journal": ("deepassay.screening.journal", "check a journal of verdicts for changed, dropped or reordered records"),
    "verify": ("deepassay.evidence.verify_command", "recompute and check a sealed dossier, without torch or media"),
    "compare": ("deepassay.evidence.compare_command", "two sealed dossiers of one tool, the newer against the older"),
    "seal": ("deepassay.pipelines.seal", "make a signing key; seal a run's dossier"),
    "protocol": ("deepassay.pipelines.protocol", "how many samples a plan needs; freeze it"),
    "marks": ("deepassay.pipelines.marks", "find labels and C2PA manifests of synthetic content, and what survives"),
    "demo": ("deepassay.pipelines.demo", "run the whole job on the built-in corpora, both modalities"),
    "metrics": ("deepassay.pipelines.metrics", "official and tie-safe metrics, with intervals, of any score file"),
    "audit": ("deepassay.audit", "look for leaks and shortcuts in a corpus before anyone trains on it"),
    "corpus": ("deepassay.pipelines.corpus", "the ledger of public corpora; verify, audit or download a copy"),
    "runs": ("deepassay.runs", "list, show and compare finished runs"),
    "doctor": ("deepassay.doctor", "say what this machine has, what is missing and what to do about it"),
}
# verb -> (module, function, one line of help); configured by configs/<verb>.yaml through Hydra
COMPOSED = {
    "prepare": ("deepassay.pipelines.prepare", "prepare", "read a corpus, split it and prepare its views"),
    "train": ("deepassay.pipelines.train", "train", "prepare, train, then export and evaluate one detector"),
    "export": (
        "deepassay.pipelines.export",
        "export",
        "turn a trained run into a screening bundle, with the parity gate",
    ),
    "evaluate": (
        "deepassay.pipelines.evaluate",
        "evaluate",
        "score a corpus or a run's splits and report with intervals",
    ),
    "study": (
        "deepassay.pipelines.study",
        "study",
        "compare recipes on tools, people and places left out, beside baselines",
    ),
    "explain": ("deepassay.pipelines.explain", "explain", "show where a face detector looks, and how faithful that is"),
    "assess": ("deepassay.pipelines.assess", "assess", "write the dossier of one editing tool"),
}
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def config_root() -> Path:
    """The folder of configs: inside the installed package, else in the checkout.

    Raises:
        ConfigError: neither is there.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "configs", package.parents[1] / "configs"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise ConfigError(
        "the folder of configs is not there", hint="install the wheel again, or run from a whole checkout"
    )


def _usage() -> str:
    width = max(len(verb) for verb in (*PLAIN, *COMPOSED)) + 2
    composed = "\n".join(f"  {verb:<{width}}{text}" for verb, (_, _, text) in COMPOSED.items())
    plain = "\n".join(f"  {verb:<{width}}{text}" for verb, (_, text) in PLAIN.items())
    return f"""usage: deepassay VERB ...

deepassay {__version__}: detectors of manipulated faces and voices, and the evidence that an assessment needs.

verbs configured by groups and overrides (deepassay VERB --help lists them; --multirun sweeps):
{composed}

plain verbs (deepassay VERB --help lists their options):
{plain}

examples:
  deepassay demo
  deepassay train experiment=demo_face trainer.max_epochs=2
  deepassay train corpus=csv corpus.csv=my/faces.csv modality=face name=mine
  deepassay screen photo.jpg clip.mp4 --bundle runs/mine/bundle
"""


def _report(error: AssayError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_ERROR


def _objective(folder: Path) -> float | None:
    """What a sweeper is told of a training: the dev value that its weights were chosen by, never one of test."""
    path = folder / "checkpoints" / "best.json"
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return float(facts["dev"][facts["monitor"]])


def _composed(verb: str, arguments: Sequence[str]) -> int:
    """Compose configs/<verb>.yaml with the overrides and call the verb's function with a plain dictionary."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come back as exceptions, so that each can get its hint
    # Threads that wait by spinning make training ten times slower where other work shares the cores (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    module, function, _ = COMPOSED[verb]
    codes: list[int] = []

    def job(config: DictConfig) -> float | None:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        run = getattr(importlib.import_module(module), function)
        folder = Path(HydraConfig.get().runtime.output_dir)
        codes.append(run(values, folder))
        return _objective(folder)

    sys.argv = [f"deepassay {verb}", *("allow_command=true" if a == "--allow-command" else a for a in arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(config_root()), config_name=verb)(job)()
    except MissingMandatoryValue as error:
        key = error.full_key or str(error)
        raise ConfigError(
            f"the configuration needs a value for {key}", hint=f"add it to the command, for example {key}=..."
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = str(error.__cause__).strip().splitlines()[0] if error.__cause__ else ""
        text = " ".join(lines[:2]) if lines else type(error).__name__
        raise ConfigError(
            f"{text} {f'({cause})' if cause and cause not in text else ''}".strip(),
            hint=f"see the groups and keys with `deepassay {verb} --help` and `deepassay {verb} --cfg job`",
        ) from error
    return max(codes, default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 good, 2 an error that ends with a hint, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else EXIT_ERROR
    if arguments[0] in ("-V", "--version"):
        print(f"deepassay {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb in PLAIN:
            module_name, text = PLAIN[verb]
            module = importlib.import_module(module_name)
            parser = argparse.ArgumentParser(
                prog=f"deepassay {verb}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            module.add_arguments(parser)
            return int(module.main(parser.parse_args(rest)))
        if verb in COMPOSED:
            return _composed(verb, rest)
        raise ConfigError(f"there is no verb {verb!r}", hint=f"use one of {', '.join((*COMPOSED, *PLAIN))}")
    except AssayError as error:
        return _report(error)
    except ModuleNotFoundError as error:
        top = (error.name or "").split(".")[0]
        if top in ("torch", "torchvision", "timm", "lightning", "datasets", "librosa", "facenet_pytorch", "onnx"):
            print(
                f"error: `deepassay {verb}` needs {top}, which the base install leaves out\n"
                "hint: pip install 'deepassay[train]'",
                file=sys.stderr,
            )
            return EXIT_ERROR
        raise
    except KeyboardInterrupt:
        print("interrupted; finished work is kept, the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our standard output closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())

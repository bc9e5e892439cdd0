"""The layout's rules: who may import whom, one door per dependency, no long files, no code in data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "avatar3d"
LAYERS = (
    ("structures", "spec", "camera", "rotations", "errors", "runs", "weights", "workers"),
    ("mesh", "fields", "diffusion"),
    ("body", "render"),
    ("engine", "conditioning", "distill", "motion", "export", "evaluation"),
    ("pictures",),
    ("film",),
    ("source", "delivery"),
    ("reconstruct",),
    ("cascade",),
    ("distilled",),
    ("distillation",),
    ("trials",),
    ("nerfstudio_model", "nerfstudio_export"),
    ("nerfstudio_plugin",),
    ("pipeline",),
    ("console", "commands", "arguments", "doctor"),
    ("cli_distill",),
    ("cli",),
)
"""Lowest first. A module imports lower layers and its own folder; those of the first layer also each other."""
LAYER = {stage: level for level, stages in enumerate(LAYERS) for stage in stages}
DOORS = {
    "anny": {"scripts/compile_template.py"},
    "imageio_ffmpeg": {"avatar3d/render/clips.py", "avatar3d/doctor.py"},
    "imageio": set(),
    "trimesh": {"avatar3d/render/load.py"},
    "skimage": {"avatar3d/mesh/extract.py"},
    "xatlas": {"avatar3d/mesh/unwrap.py"},
    "pxr": {"avatar3d/export/usd.py"},
    "bpy": {"avatar3d/export/blender_fbx.py"},
    "transformers": {"scripts/compile_words.py", "avatar3d/distill/diffusers_door.py"},
    "pytorch3d": {"avatar3d/render/peer_rasterizers.py", "scripts/benchmark_render.py"},
    "nvdiffrast": {"avatar3d/render/peer_rasterizers.py"},
    "diffusers": {"avatar3d/distill/diffusers_door.py", "scripts/train_prior.py"},
    "huggingface_hub": {"avatar3d/distill/diffusers_door.py"},
    "nerfstudio": {
        "avatar3d/nerfstudio_model.py",
        "avatar3d/nerfstudio_export.py",
        "scripts/benchmark_fields.py",
        "scripts/nerfstudio_peer.py",
    },
    "accelerate": {"avatar3d/distill/processes.py"},
    "ray": {"avatar3d/workers.py"},
    "peft": {"avatar3d/distill/own.py", "avatar3d/distill/diffusers_door.py"},
}
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])


def imports(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, both without the leading `avatar3d.`."""
    paths = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in paths.items():
        inner = {i.removeprefix("avatar3d.") for i in imports(path) if i.startswith("avatar3d.")}
        graph[name] = {max((m for m in paths if f"{i}.".startswith(f"{m}.")), key=len, default="") for i in inner}
        graph[name].discard("")
    return graph


def test_every_module_has_a_layer():
    stages = {module.split(".")[0] for module in module_imports()} - {"__init__"}
    assert stages <= set(LAYER), f"add {stages - set(LAYER)} to LAYERS"


def test_imports_go_down():
    wrong = []
    for module, targets in module_imports().items():
        for target in targets:
            stage, other = module.split(".")[0], target.split(".")[0]
            if stage != other and LAYER[other] >= LAYER[stage] > 0:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_no_import_cycles():
    graph = module_imports()
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("package", DOORS)
def test_one_door_per_heavy_dependency(package):
    users = {str(p.relative_to(ROOT)) for p in SOURCES if package in {i.split(".")[0] for i in imports(p)}}
    assert users <= DOORS[package]


def test_files_are_short_and_folders_flat():
    long = {str(p): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > 400}
    assert long == {}
    assert all(len(p.relative_to(PACKAGE).parts) <= 2 for p in PACKAGE.rglob("*.py"))


def test_nothing_runs_data():
    """No pickle, no eval or exec; torch.load only of plain tensors (checkpoints that a script resumes from)."""
    for path in SOURCES:
        assert not {i.split(".")[0] for i in imports(path)} & {"pickle", "marshal", "dill", "shelve"}, path
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call):
                name, options = ast.unparse(call.func), {ast.unparse(k) for k in call.keywords}
                assert name not in ("eval", "exec", "yaml.load"), path
                assert name != "torch.load" or "weights_only=True" in options, path


def test_help_needs_no_heavy_module():
    """`--help` stays quick: what the command imports at the top is light."""
    light = {"__future__", "avatar3d", "tyro", "collections", "contextlib", "dataclasses", "pathlib", "typing"}
    light |= {"difflib", "errno", "json", "os", "re", "secrets", "signal", "sys", "traceback"}
    own = ("console", "commands", "arguments", "cli_distill", "errors")
    for name in ("cli", "__init__", *own):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for node in top:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {str(n).split(".")[0] for n in names} <= light
            inner = {n for n in map(str, names) if n.startswith("avatar3d.")}
            assert inner <= {f"avatar3d.{module}" for module in own}

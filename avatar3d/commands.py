"""What the command line takes: one frozen dataclass per command. Their docstrings are its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

View = Literal["bust", "head", "full"]
Profile = Literal["vrm", "unity", "unreal", "godot", "mixamo", "rpm", "makehuman"]
Preset = Literal["hero", "desktop", "web", "quest", "crowd"]
Bind = Literal["auto", "a", "t"]
Representation = Literal["structured", "triplane", "both"]


@dataclass(frozen=True)
class Turntable:
    """The clip of a turn around the avatar."""

    frames: int = 72
    """Frames of the turntable; 0 for none."""
    resolution: int = 512
    """Width and height of the turntable in pixels, even, from 64 to 2048."""
    view: View = "bust"
    """What the turntable shows."""


@dataclass(frozen=True)
class Files:
    """The avatar's files."""

    format: str = "glb"
    """Joined by commas: glb, vrm, obj, ply, stl, usd, fbx (fbx needs Blender)."""
    profile: Profile = "vrm"
    """Whose bone names and hierarchy they have."""
    bind: Bind = "auto"
    """The rest pose: arms in an A or a T; auto takes what the profile's engine expects."""
    preset: Preset | None = None
    """Size for a platform (triangles, textures, materials, joints); without one everything stays as it is."""
    lod: int = 1
    """Levels of detail, each with half the triangles of the one before; 1 to 5."""
    twist: bool = False
    """Add twist bones to arms and legs."""
    compressed: bool = False
    """Beside each GLB a smaller one with meshopt geometry and WebP textures (needs node and gltf-transform)."""


@dataclass(frozen=True)
class Output:
    """What is printed, and what may be replaced."""

    overwrite: bool = False
    """Replace what is there under the same name."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Generate:
    """Make rigged avatars from a prompt: avatar.glb, turntable.mp4, preview.png, spec.json and run.json."""

    prompt: str
    """Who it is, in English, for example "old man with glasses"."""
    seed: int | None = None
    """0 or more; the same seed gives the same avatar. Without it a random one is chosen, printed and stored."""
    count: int = 1
    """How many avatars, with the seeds seed, seed + 1, ...; each gets its own folder."""
    out: Path = Path("outputs")
    """Folder of the run folders."""
    representation: Representation = "structured"
    """structured: the engine's avatar. triplane: a tri-plane of head and shoulders through the cascade, its film
    and mesh, and the avatar in its look. both: that tri-plane beside the engine's avatar as it is."""
    turntable: Turntable = field(default_factory=Turntable)
    files: Files = field(default_factory=Files)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Build:
    """Make an avatar from a spec.json, for example one of `generate` that was edited by hand."""

    spec: tyro.conf.Positional[Path]
    """JSON file with the fields to set; absent fields take their defaults."""
    out: Path = Path("outputs")
    """Folder of the run folder."""
    representation: Representation = "structured"
    """As for generate: structured, triplane or both."""
    turntable: Turntable = field(default_factory=Turntable)
    files: Files = field(default_factory=Files)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Export:
    """Write an avatar for a game engine: file formats, bone names, bind pose, levels of detail, platform sizes.

    For example: avatar3d export outputs/old-man-7 --profile unity --format glb,vrm
    or: avatar3d export avatar.glb --profile unreal --lod 3 --twist
    or: avatar3d export avatar.glb --preset quest
    """

    avatar: tyro.conf.Positional[Path]
    """A run folder, a spec.json, or a rigged GLB, glTF or VRM file of any program; or a run of nerfstudio, which
    becomes a mesh with a texture."""
    out: Path | None = None
    """Folder to make; by default <name>-<profile> or <name>-<profile>-<preset> beside the avatar."""
    files: Files = field(default_factory=Files)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Dress:
    """Change what an avatar wears, and its hair, beard and glasses; its body and face stay the same.

    For example: avatar3d dress outputs/old-man-7 --top hoodie --colour red
    or: avatar3d dress avatar.glb --hair bob --hair-color blonde --glasses none
    """

    avatar: tyro.conf.Positional[Path]
    """A run folder, a spec.json, or a GLB or VRM file that avatar3d wrote."""
    top: str | None = None
    """Upper garment, for example hoodie."""
    bottom: str | None = None
    """Lower garment, for example skirt."""
    shoes: str | None = None
    """For example boots."""
    hat: str | None = None
    """For example cap, or none."""
    glasses: str | None = None
    """Frame shape, for example round, or none."""
    lenses: str | None = None
    """clear or dark."""
    earrings: str | None = None
    """For example hoops, or none."""
    hair: str | None = None
    """Hair style, for example bob, or bald."""
    beard: str | None = None
    """For example full, or none."""
    pattern: str | None = None
    """Of the upper garment, for example stripes."""
    color: Annotated[str | None, tyro.conf.arg(aliases=["--colour"])] = None
    """Color of the one garment, hat or pair of glasses that is changed."""
    hair_color: Annotated[str | None, tyro.conf.arg(aliases=["--hair-colour"])] = None
    """Of hair, brows and beard."""
    set: tuple[str, ...] = ()
    """More of it as name=value, for example hat_color=navy bottom_color=beige hair_length=0.8."""
    out: Path = Path("outputs")
    """Folder of the run folder."""
    representation: Representation = "structured"
    """As for generate: structured, triplane or both."""
    turntable: Turntable = Turntable(frames=0, view="full")
    files: Files = field(default_factory=Files)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Film:
    """The mp4."""

    video: bool = True
    """Write an mp4 beside the GLB."""
    fps: int = 30
    """Frames per second."""
    resolution: int = 512
    """Width and height in pixels, even, from 64 to 2048."""
    view: View = "full"
    """What it shows."""


@dataclass(frozen=True)
class Animate:
    """Move an avatar: a GLB with the animation in it, and an mp4.

    For example: avatar3d animate outputs/old-man-7 --clip wave
    or: avatar3d animate avatar.glb --audio speech.wav --expression happy
    or: avatar3d animate avatar.vrm --bvh run.bvh
    """

    avatar: tyro.conf.Positional[Path]
    """A run folder, a spec.json, or a rigged GLB, glTF or VRM file with humanoid bone names."""
    clip: Literal["idle", "walk", "wave", "nod", "talk", "dance"] | None = None
    """A built-in motion; without one idle, or talk with --audio."""
    bvh: Path | None = None
    """Motion capture; bones are recognized by their names (CMU, Mixamo, MakeHuman, Unity, VRM, Biped, ...)."""
    bones: Path | None = None
    """JSON object from bone names of the BVH file to VRM bone names, where they are not recognized."""
    audio: Path | None = None
    """Speech (WAV, or anything that ffmpeg reads) that moves the mouth."""
    expression: str | None = None
    """happy, angry, sad, relaxed, surprised, or face shapes as name=weight joined by commas."""
    seconds: float | None = None
    """Length of a built-in motion; by default one natural loop, or as long as the audio."""
    travel: bool = False
    """Let walking move the avatar forward instead of on the spot."""
    seed: int = 0
    """Of what varies: blinks, gestures."""
    out: Path | None = None
    """Folder to make; by default <name>-<clip> beside the avatar."""
    film: Film = field(default_factory=Film)
    files: Files = field(default_factory=Files)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Render:
    """Make a turntable of any GLB, glTF or OBJ file in its rest pose."""

    file: tyro.conf.Positional[Path]
    """The mesh file."""
    out: Path | None = None
    """The clip to write; by default <name>-turntable.mp4 beside the file."""
    frames: int = 72
    """Frames of the turntable."""
    resolution: int = 512
    """Width and height in pixels, even, from 64 to 2048."""
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Method:
    """How a prompt becomes a shape."""

    method: str = "fast"
    """A method of configs/distill (fast, sdi, dreamfusion, magic3d, avatarverse, avatar), or a YAML file."""
    prior: str | None = None
    """Folder or hub id of a diffusers text-to-image pipeline; without one the prior that ships, which knows heads
    and shoulders of people."""
    negative: str | None = None
    """What is not wanted, in words, instead of the method's own."""
    avatar: Path | None = None
    """For --method avatar: the run folder, spec or GLB to restyle; without one an avatar of the prompt."""
    source: str | None = None
    """What that avatar looks like now, in words: what --prompt says beyond it is changed. Without it the prompt
    that its file tells is taken."""
    steps: float = 1.0
    """Times the method's own number of steps, for example 0.5."""
    size: int | None = None
    """Pixels a side of the pictures that the prior judges, instead of the method's own; 16 to 1024."""
    max_memory: str | None = None
    """Limit to plan for, for example 8GB."""
    device: str = "cpu"
    """Or cuda."""
    lora: str | None = None
    """File or folder of a LoRA for --prior."""
    controlnet: str | None = None
    """Folder or hub id of a ControlNet for --prior that was made for dense poses (DensePose's 24 parts): it is
    shown the pose of the avatar, or of an ordinary body in the scene's box."""
    pose_picture: Literal["parts", "parts_on_violet", "iuv"] = "parts"
    """What the ControlNet is shown: a color of viridis for each part over black, the same over viridis' violet, or
    part / 24, u, v."""
    still: float = 0.0
    """Stop a stage when its pictures change less than this (0 to 1, for example 0.002); 0 for never."""


@dataclass(frozen=True)
class Object:
    """The files of what was distilled."""

    format: str = "glb"
    """Joined by commas: glb, obj, ply, stl; for --method avatar those of generate."""
    triangles: int = 20000
    """Of the mesh, at most."""
    texture: int = 1024
    """Texels of the mesh's texture along each side."""
    frames: int = 48
    """Frames of the turntable; 0 for none."""
    resolution: int = 256
    """Width and height of the turntable in pixels, even, from 64 to 2048."""


@dataclass(frozen=True)
class Distill:
    """Make a mesh of a prompt by score distillation from a diffusion model: object.glb, turntable.mp4, run.json.

    For example: avatar3d distill --prompt "old man with glasses"
    or: avatar3d distill --prompt "a hamburger" --prior ./stable-diffusion-2-1-base --method sdi --device cuda
    or: avatar3d distill --prompts prompts.txt --best-of 3 --jobs 2 --out outputs
    or, one run on all GPUs: accelerate launch -m avatar3d.cli distill --prompt "a hamburger" --device cuda ...
    A run that was stopped goes on when the same command is given with --resume. With --overwrite the old run stays
    until the new one is whole.
    """

    prompt: str | None = None
    """What to make, in English."""
    prompts: Path | None = None
    """Instead of --prompt: a text file with one prompt on each line; each gets its own folder."""
    seed: int = 0
    """The same seed gives the same result on the same machine."""
    best_of: int = 1
    """Make it with so many seeds (seed, seed + 1, ...) and name the one that the prior finds fits best."""
    jobs: int = 1
    """Runs side by side, of several prompts or seeds, in processes of this machine; each takes one GPU, if any."""
    ray: bool = False
    """Instead of --jobs: spread them over a running Ray cluster, whose machines share --out, or over this machine
    (needs pip install 'avatar3d[ray]')."""
    resume: bool = False
    """Go on with a run that was stopped."""
    preview_every: int = 50
    """Steps between two pictures in preview.png while it runs."""
    out: Path = Path("outputs")
    """Folder of the run folders."""
    method: Method = field(default_factory=Method)
    object: Object = field(default_factory=Object)
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class Reconstruct:
    """Make a mesh of pictures from all sides with their cameras: mesh.glb, turntable.mp4, report.json.

    For example: avatar3d reconstruct my-pictures --steps 3000
    A run that was stopped goes on when the same command is given again.
    """

    folder: tyro.conf.Positional[Path]
    """Folder with transforms.json, as Blender's NeRF scenes and nerfstudio have it."""
    out: Path | None = None
    """Folder of the files; by default <name>-reconstruction beside the pictures."""
    field: Literal["voxels", "hash", "planes", "mlp"] = "voxels"
    """What represents the scene: voxels are quickest, hash is finest."""
    steps: int = 1500
    """Of the optimizer."""
    rays: int = 4096
    """Of each step."""
    held_out: int = 8
    """Every so many pictures one is not trained on, but measured."""
    largest: int = 400
    """Pixels of the longer side of a picture, at most."""
    radius: float | None = None
    """Half the side of the box around what the cameras look at; by default as much as they see."""
    seed: int = 0
    """Of all that is random."""
    triangles: int = 20000
    """Of the mesh, at most."""
    texture: int = 1024
    """Texels of its texture along each side."""
    frames: int = 48
    """Frames of the turntable; 0 for none."""
    resolution: int = 256
    """Width and height of the turntable in pixels, even, from 64 to 2048."""
    output: Output = Output()


@dataclass(frozen=True)
class Doctor:
    """Show what is installed, whether the shipped data is intact and which optional doors are open."""

    output: Output = field(default_factory=Output)


Command = Generate | Build | Export | Dress | Animate | Distill | Reconstruct | Render | Doctor
COMMANDS = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Dress, tyro.conf.subcommand("dress")]
    | Annotated[Animate, tyro.conf.subcommand("animate")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)

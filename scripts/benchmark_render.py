"""Our rasterizers beside what else can be installed, on the same mesh in the same run; and whole frames.

    OMP_WAIT_POLICY=PASSIVE python scripts/benchmark_render.py

(waiting threads that spin slow everything down many times over when another program runs).
All draw the visible face of each pixel of the default body's upper half at 512 x 512 (moderngl also shades its
vertex normals, since it has to draw something). Times are the best of several runs in milliseconds; ratios are
to our numba z-buffer, above 1 is slower than it. What is not installed is said to be so.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import tyro

from avatar3d.body.shape import shape_body
from avatar3d.camera import frame_points, orbit, pixel_centers, unproject
from avatar3d.engine.build import build_avatar
from avatar3d.render.fused import draw, scene_arrays
from avatar3d.render.lights import ring_lights
from avatar3d.render.meshes import BACKDROP, render_meshes
from avatar3d.render.rasterize import rasterize_numba, rasterize_torch
from avatar3d.render.scene import Scene, camera_view, compile_scene, labelled, solid_cutoffs, view_triangles
from avatar3d.render.visibility import shadow_map
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Camera, Material, Mesh, Part, Skin

SHADERS = (
    "#version 330\nin vec3 p; in vec3 n; out vec3 c; uniform mat4 m; void main(){gl_Position=m*vec4(p,1);c=n;}",
    "#version 330\nin vec3 c; out vec4 o; void main(){o=vec4(0.5+0.5*c,1);}",
)


@dataclass(frozen=True)
class RenderBenchmarkConfig:
    """What to measure."""

    size: int = 512
    repeats: int = 7


def body_scene() -> Scene:
    """The default body's skin as one opaque mesh."""
    body = shape_body(AvatarSpec())
    corner_vertex, uv, faces = body.template.surface("body")
    vertices = body.vertices[corner_vertex]
    mesh = Mesh(vertices, faces, torch.nn.functional.normalize(vertices, dim=-1), uv, Material("skin"))
    skin = Skin(torch.zeros(len(vertices), 4, dtype=torch.int64), torch.eye(4)[:1].expand(len(vertices), 4))
    return compile_scene(labelled([Part("body", "body", mesh, skin)]))


def best(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of `repeats` calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1e3 * min(times)


def embree_call(scene: Scene, camera: Camera) -> Callable[[], object]:
    """One ray per pixel through embreex; its tree is built beforehand."""
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    tree = rtcore_scene.EmbreeScene()
    TriangleMesh(tree, scene.vertices[scene.faces].numpy().astype(np.float32))
    ends = unproject(camera, pixel_centers(camera), torch.ones(camera.height, camera.width)).view(-1, 3)
    eye = camera.T_world_camera[:3, 3].expand_as(ends).contiguous()
    directions = (ends - eye).contiguous().numpy().astype(np.float32)
    origins = eye.numpy().astype(np.float32)
    return lambda: tree.run(origins, directions, output=1)


def moderngl_call(scene: Scene, camera: Camera) -> Callable[[], object]:
    """OpenGL without a window (EGL), read back to memory."""
    import moderngl

    context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
    print(f"  (moderngl draws with {context.info['GL_RENDERER']})")
    program = context.program(vertex_shader=SHADERS[0], fragment_shader=SHADERS[1])
    near, far = 0.01, 100.0
    projection = np.zeros((4, 4))
    projection[0, 0] = 2 * camera.focal / camera.width
    projection[1, 1] = -2 * camera.focal / camera.height
    projection[2, 2:] = (far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = 1
    matrix = projection @ np.linalg.inv(camera.T_world_camera.double().numpy())
    program["m"].write(matrix.T.astype("f4").tobytes())  # type: ignore[union-attr]
    points = context.buffer(scene.attributes[:, :6].contiguous().numpy().tobytes())
    index = context.buffer(scene.faces.int().numpy().tobytes())
    array = context.vertex_array(program, [(points, "3f 3f", "p", "n")], index)
    target = context.simple_framebuffer((camera.width, camera.height))
    target.use()
    context.enable(moderngl.DEPTH_TEST)

    def draw() -> bytes:
        target.clear()
        array.render()
        return target.read(components=3)

    return draw


def pytorch3d_call(scene: Scene, camera: Camera) -> Callable[[], object]:
    """pytorch3d's rasterizer with its own default settings for binning."""
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    T = torch.linalg.inv(camera.T_world_camera)
    flip = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    R = (flip @ T[:3, :3]).T[None]
    cameras = PerspectiveCameras(2 * camera.focal / camera.height, R=R, T=(flip @ T[:3, 3])[None])
    settings = RasterizationSettings((camera.height, camera.width), faces_per_pixel=1)
    rasterizer = MeshRasterizer(cameras, settings)
    meshes = Meshes([scene.vertices], [scene.faces])
    return lambda: rasterizer(meshes)


def compare(config: RenderBenchmarkConfig) -> None:
    """Visible faces of one mesh by everything that is installed."""
    scene = body_scene()
    upper = scene.vertices[scene.vertices[:, 1] > 0.55 * scene.vertices[:, 1].max()]
    camera = frame_points(upper, 0.4, 0.1, width=config.size, height=config.size)
    every = torch.arange(len(scene.faces))

    def triangles():
        return view_triangles(scene, camera_view(scene, camera), every, solid_cutoffs(scene))

    size = (config.size, config.size)
    ours = best(lambda: rasterize_numba(triangles(), *size), config.repeats)
    print(f"\nvisible faces, {len(scene.faces)} triangles at {size[0]} x {size[1]}     ms     ratio")
    print(f"  ours, numba z-buffer                     {ours:8.1f}    1.0")
    others = (
        ("ours, torch z-buffer", "torch", lambda *_: lambda: rasterize_torch(triangles(), *size)),
        ("embreex ray casting (tree built before)", "embreex", embree_call),
        ("moderngl, EGL", "moderngl", moderngl_call),
        ("pytorch3d rasterizer", "pytorch3d", pytorch3d_call),
    )
    for name, package, prepare in others:
        if importlib.util.find_spec(package) is None:
            print(f"  {name:40s} not installed")
            continue
        try:
            took = best(prepare(scene, camera), min(config.repeats, 3))
        except Exception as error:  # no display driver, no compiler ...: a line in the table, not an end
            print(f"  {name:40s} failed: {type(error).__name__}: {error}")
            continue
        print(f"  {name:40s} {took:8.1f} {took / ours:6.1f}")


def frames(config: RenderBenchmarkConfig) -> None:
    """Whole pictures of an avatar: 2 x 2 samples, shadows and occlusion."""
    avatar = build_avatar(AvatarSpec(hair_style="long_wavy", glasses="round"))
    scene = compile_scene(labelled(avatar.parts))
    head = avatar.skeleton.positions[avatar.skeleton.names.index("head")]
    views = {
        "whole body": frame_points(scene.vertices, 0.4, width=config.size, height=config.size),
        "portrait": orbit(head + torch.tensor([0.0, 0.06, 0.0]), 0.9, 0.4, width=config.size, height=config.size),
    }
    print(f"\nwhole frames, {len(scene.faces)} triangles at {config.size} x {config.size}, goal 250 ms      ms")
    for name, camera in views.items():
        print(f"  {name:40s} {best(partial(render_meshes, scene, camera), config.repeats):8.1f}")
    lights, arrays = ring_lights(), scene_arrays(scene)
    shadows = [shadow_map(scene, light, scene.vertices) for light in lights.lights if light.shadow]
    one = partial(draw, arrays, views["portrait"], lights, BACKDROP, shadow_maps=shadows)
    print(f"  {'portrait in a turntable, one thread':40s} {best(one, config.repeats):8.1f}")


def main(config: RenderBenchmarkConfig) -> None:
    """Print machine, versions, load and both tables."""
    model = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
    packages = [p for p in ("torch", "numba", "embreex", "moderngl", "pytorch3d") if importlib.util.find_spec(p)]
    print(f"machine   {model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used")
    print("versions  " + ", ".join(f"{p} {version(p)}" for p in packages))
    print(f"load      {os.getloadavg()[0]:.2f} (a load above 0.3 makes the figures upper bounds)")
    compare(config)
    frames(config)


if __name__ == "__main__":
    main(tyro.cli(RenderBenchmarkConfig))

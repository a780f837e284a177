"""How good the prior is, on people and seeds it was never trained on: contact sheets and figures against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import dlib
import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from my3dgen.cameras import camera, look_at_sampler
from my3dgen.evaluation.sheets import grid
from my3dgen.faces import prepare
from my3dgen.faces.align import place
from my3dgen.faces.detect import detect, landmarks
from my3dgen.personal.encode import Latents
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import Objective, targets, usable
from my3dgen.personal.project import ProjectOptions, project
from my3dgen.pretraining import facekit, people, render
from my3dgen.writing import replacing

FIRST_SEED = 1_000_000  # far from the shards' seeds
AROUND = 12  # pixels about the head, where hair that is too long, frayed or loose in the air shows


@torch.no_grad()
def contact_sheets(prior, folder: str) -> dict[str, str]:
    """The first 64 seeds from the front, and the first 8 from 7 sides; unpicked."""
    place_ = Path(folder)
    place_.mkdir(parents=True, exist_ok=True)
    z = torch.from_numpy(np.stack([people.sample(np.random.default_rng(FIRST_SEED + i)) for i in range(64)]))
    ws = prior.generator.mapping(z, None)
    fronts = [to_uint8(prior.render(w, camera(0, 0))) for w in ws]
    views = [to_uint8(prior.render(w, camera(yaw, 0.0))) for w in ws[:8] for yaw in np.linspace(-0.6, 0.6, 7)]
    files = {"people": str(place_ / "people.jpg"), "views": str(place_ / "views.jpg")}
    for (_, path), sheet in zip(files.items(), (grid(fronts, 8), grid(views, 7)), strict=True):
        sheet = cv2.resize(sheet, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        with replacing(path) as file:
            Image.fromarray(sheet).save(file, quality=90)
    return files


@torch.no_grad()
def against_truth(prior, count: int = 40) -> dict[str, float]:
    """PSNR, SSIM and depth error inside the head, and PSNR just around it, against true renders of the same z, without marks."""
    kit = facekit.load()
    psnr, around, ssim, depth_error, found, found_true = [], [], [], [], 0, 0
    beside = np.ones((2 * AROUND + 1, 2 * AROUND + 1), np.uint8)
    detector = dlib.get_frontal_face_detector()
    for i in range(count):
        rng = np.random.default_rng(FIRST_SEED + 500 + i)
        z = people.sample(rng)
        person = people.decode(z)
        c = look_at_sampler(rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25))
        truth = render.draw(kit, person, render.build(kit, person), c.numpy(), 256, 2)
        ws = prior.generator.mapping(torch.from_numpy(z)[None], None)
        out = prior.generator.synthesis(ws, c[None])
        image = to_uint8(out["image"])[0]
        head = ~np.isin(truth.part, (facekit.MATERIALS.index("wall"), facekit.MATERIALS.index("garment")))
        error = ((image.astype(float) - truth.image) ** 2).mean(-1)
        psnr.append(10 * np.log10(255**2 / max(error[head].mean(), 1e-9)))
        ring = (cv2.dilate(head.astype(np.uint8), beside) > 0) & ~head
        around.append(10 * np.log10(255**2 / max(error[ring].mean(), 1e-9)))
        _, full = structural_similarity(truth.image, image, channel_axis=2, full=True)
        ssim.append(full.mean(-1)[head].mean())
        depth = cv2.resize(out["image_depth"][0, 0].numpy(), (256, 256), interpolation=cv2.INTER_LINEAR)
        face = np.zeros((256, 256), np.uint8)
        cv2.fillConvexPoly(face, cv2.convexHull(truth.landmarks.astype(np.int32)), 1)
        depth_error.append(np.abs(depth - truth.depth)[face > 0].mean())
        found += len(detector(image, 0)) == 1
        found_true += len(detector(truth.image, 0)) == 1
    return {
        "psnr": round(float(np.mean(psnr)), 2),
        "around_psnr": round(float(np.mean(around)), 2),
        "ssim": round(float(np.mean(ssim)), 3),
        "depth_error": round(float(np.mean(depth_error)), 4),
        "detected": found / count,
        "detected_true": found_true / count,
        "people": count,
    }


@torch.no_grad()
def detection(prior, views: int = 500) -> dict[str, float]:
    """In how many views (a new person each, yaw +-0.35, pitch +-0.25) dlib's detector finds exactly one face, renders and truth."""
    kit, detector = facekit.load(), dlib.get_frontal_face_detector()
    found, found_true = 0, 0
    for i in range(views):
        rng = np.random.default_rng(FIRST_SEED + 10_000 + i)
        z = people.sample(rng)
        c = look_at_sampler(rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25))
        person = people.decode(z)
        truth = render.draw(kit, person, render.build(kit, person), c.numpy(), 256, 1).image
        image = to_uint8(prior.render(prior.generator.mapping(torch.from_numpy(z)[None], None)[0], c))
        found += len(detector(image, 0)) == 1
        found_true += len(detector(truth, 0)) == 1
    return {"views_detected": found / views, "views_detected_true": found_true / views, "views": views}


def encoder_start(prior, photos: Sequence[str], short: int = 50, long: int = 500) -> dict[str, float]:
    """Final loss of `short` steps from the encoder's guess beside `long` steps from w_avg: same photos, same loss.

    The loss is what fits of this prior lower by default, picture and pull; "picture" is without the pull. "published" is
    the papers' projection, at its own rates along the axes of W and without the pull: compare its "picture". All others
    have the prior's default options.

    Args:
        photos: files; refused ones are left out.
    """
    faces = usable(prepare(photos))
    encoder = ProjectOptions.for_prior(prior)
    plain = replace(encoder, use_encoder=False)
    published = ProjectOptions(use_encoder=False, micro_batch=encoder.micro_batch)
    what, objective = targets(prior, faces, encoder.background), Objective(prior)

    def losses(name: str, options: ProjectOptions, steps: int) -> dict[str, float]:
        anchors = project(prior, faces, steps, options=options)
        ws, cameras = anchors.ws.to(prior.device), anchors.cameras.to(prior.device)
        picture = 0.0
        with torch.no_grad():
            for i in range(len(faces)):
                out, row = prior.generator.synthesis(ws[i : i + 1], cameras[i : i + 1]), what.rows([i])
                picture += float(objective.high(out["image"], row) + objective.low(out["image_raw"], row))
            pull = encoder.prior_weight * float(Latents(ws[:, :1], encoder.basis_of(prior)).unlikely())
        return {
            name: round((picture + pull) / len(faces), 4),
            f"{name}_picture": round(picture / len(faces), 4),
        }

    return {
        **losses(f"encoder_{short}", encoder, short),
        **losses(f"published_{long}", published, long),
        **losses(f"w_avg_{long}", plain, long),
        **losses(f"w_avg_{short}", plain, short),
        "photos": len(faces),
    }


@torch.no_grad()
def fronts_come_back(prior, count: int = 40) -> dict[str, float]:
    """Crop front views again: mean offset of the crop's centre, its scale, and how far the landmarks move, in px of 512."""
    offsets, moved, scales = [], [], []
    for i in range(count):
        z = torch.from_numpy(people.sample(np.random.default_rng(FIRST_SEED + i)))[None]
        image = to_uint8(prior.render(prior.generator.mapping(z, None)[0], camera(0, 0)))
        image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
        found = detect(image)
        if not found:
            continue
        points = landmarks(image, found[0])
        placement = place(points)
        offsets.append(placement.to_photo(np.array([256.0, 256.0])) - 256)
        scales.append(placement.scale)
        moved.append(np.linalg.norm(placement.to_crop(points) - points, axis=1).mean())
    mean = np.mean(offsets, 0)
    return {
        "mean_offset_px": round(float(np.linalg.norm(mean)), 2),
        "mean_landmark_px": round(float(np.mean(moved)), 2),
        "mean_scale": round(float(np.mean(scales)), 4),
        "found": len(offsets),
        "people": count,
    }

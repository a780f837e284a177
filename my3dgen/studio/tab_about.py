"""About: what this is, which prior is used, what happens to photos, licences."""

from __future__ import annotations

import gradio as gr

from my3dgen.studio import priors
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import Page

TEXT = """
## What this is
My3DGen makes a 3D model of one person's face. A pretrained 3D face model (the *prior*) stays as it is; your
photos train a small set of low-rank additions to it (about 1 MB or less at rank 1) that make it look like you. Every tab shows
the pretrained model beside the personalized one, so that you can see what those additions do.

The method: Qi, Wu, Wang, Wang, Sengupta, *My3DGen: A Scalable Personalized 3D Generative Model*, WACV 2025
(arXiv 2307.05468), on top of EG3D (Chan et al., CVPR 2022). This is an independent implementation.

## Your photos
- The photos to personalize from are read only after you tick the consent box; a photo that you choose in another tab is
  read when you choose it. Everything happens on this server, and nothing is sent anywhere else. The page loads nothing from other
  sites, and nothing is measured.
- Photos, crops and models belong to this browser tab alone. They are deleted some minutes after you close
  or reload it, an hour (on a full server five minutes) after you last used it, or at once with **Delete my data** at the bottom of the page. A model you download is yours.
- The place and time that phones write into photos are dropped when a photo is read.
- Only use photos of people who agreed. A model like this can make pictures that person was never in.

## Licences
The code and the `heads` weights: Apache 2.0. The example people are rendered from USC ICT-FaceKit (MIT) and do
not exist. The other weights are other people's: see the table at the end.

## Calling it from a program
Everything here is also an API: see *Use via API* at the bottom of the page. `/prepare`, `/load_example`,
`/personalize`, `/load_adapter`, `/render`, `/invert`, `/inpaint`, `/upscale`, `/interpolate`, `/synthesize`,
`/edit`, `/export` and `/delete_my_data` are for you; README has the arguments of each.
"""

OTHERS = """
## Other people's weights
None of these files comes with my3dgen. `ffhq` and `cats` are fetched when they are first used, the others only
where the server's owner asks for them. Using one means agreeing to its licence.
"""


def build(page: Page) -> None:
    """Lay the tab out."""
    prior = gr.Markdown("", elem_id="about-prior")
    gr.Markdown(TEXT)
    others = gr.Markdown("", elem_id="about-licences")
    page.on_load(_priors, prior)
    page.on_load(_licences, others)


@guarded
def _licences() -> str:
    return f"{OTHERS}\n\n{licences()}"


def licences() -> str:
    """The catalogue's files as a table in Markdown: what each is for, its licence, what to cite."""
    from my3dgen.priors import releases  # late: it takes torch

    rows = ["| weights | what for | licence | cite |", "| --- | --- | --- | --- |"]
    for name, file in (releases.RELEASES | releases.HELPERS).items():
        title = f"[{name}]({file.page})"
        licence = f"[{file.licence}]({file.licence_page})"
        rows.append(f"| {title} | {file.purpose} | {licence} | {file.citation} |")
    return "\n".join(rows)


@guarded
def _priors() -> str:
    used = priors.default()
    lines = [
        f"- **{offer.title}**{' (used here)' if offer.name == used else ''}: {offer.about}"
        for offer in priors.offered()
    ]
    return "## Which pretrained model\n" + "\n".join(lines)

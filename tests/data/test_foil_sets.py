"""Sets of foils, and of several captions, in the formats in which their authors publish them."""

import json

import numpy as np
import PIL.Image
import pytest

from mdc_jax.config import ConfigError
from mdc_jax.data import images, word_order
from mdc_jax.data.sources import aro, open_source

CAPTION = "Two brown dogs chase a small white cat, on the wet grass."
TAGS = ["CD", "JJ", "NNS", "VBP", "DT", "JJ", "JJ", "NN", "IN", "DT", "JJ", "NN"]

WITHIN_AND_OF_TRIGRAMS = [
    "two brown dogs a small chase cat, white on the wet grass",
    "two brown dogs the wet grass chase a small white cat, on",
]


def picture(path, left=(255, 0, 0), right=(0, 0, 255)):
    """A picture of two colours, 20 wide and 10 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((10, 20, 3), np.uint8)
    pixels[:, :10], pixels[:, 10:] = left, right
    PIL.Image.fromarray(pixels).save(path, "PNG")


def boxed(image, true, false, box, **more):
    left, top, width, height = box
    sides = {"bbox_x": left, "bbox_y": top, "bbox_w": width, "bbox_h": height}
    return {"image_id": 1, "image_path": image, "true_caption": true, "false_caption": false, **sides, **more}


def test_sugarcrepe_has_a_kind_for_each_file(tmp_path):
    picture(tmp_path / "val2017" / "1.jpg")
    entry = {"filename": "1.jpg", "caption": "a red cup", "negative_caption": "a blue cup"}
    (tmp_path / "replace_att.json").write_text(json.dumps({"0": entry, "1": {**entry, "caption": "a cup"}}))
    (tmp_path / "add_obj.json").write_text(json.dumps({"0": entry}))
    source = open_source(f"sugarcrepe:{tmp_path},images={tmp_path / 'val2017'}")
    assert source.foil_kinds == ("add_obj", "replace_att")
    foils = [source.foils("replace_att", index) for index in range(2)]
    assert sorted(foil.captions for foil in foils) == [("a cup", "a blue cup"), ("a red cup", "a blue cup")]
    assert foils[0].images == ((tmp_path / "val2017" / "1.jpg").read_bytes(),)
    with pytest.raises(IndexError, match="which has 2 of kind replace_att"):
        source.foils("replace_att", 2)
    # As records: the image with its true caption.
    assert len(source) == 3 and source[0].captions == source.captions(0) == ("a red cup",)
    with pytest.raises(ConfigError, match=r"1 of its 1 images are not there, as .*images/1.jpg"):
        open_source(f"sugarcrepe:{tmp_path}")
    (tmp_path / "add_obj.json").write_text(json.dumps([entry]))
    with pytest.raises(ConfigError, match=r"add_obj.json is not as its authors publish it, with .*negative_caption"):
        open_source(f"sugarcrepe:{tmp_path},images={tmp_path / 'val2017'}")


def test_winoground_has_two_images_of_two_captions(tmp_path):
    for side in (0, 1):
        picture(tmp_path / "images" / f"ex_0_img_{side}.png", left=(side, 0, 0))
    line = {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1"}
    line |= {"caption_0": "a cat on a dog", "caption_1": "a dog on a cat", "collapsed_tag": "Object"}
    (tmp_path / "examples.jsonl").write_text(json.dumps(line) + "\n")
    source = open_source(f"winoground:{tmp_path}")
    foil = source.foils("winoground", 0)
    assert foil.captions == ("a cat on a dog", "a dog on a cat") and foil.group == ""
    assert [images.decode(image)[0, 0, 0] for image in foil.images] == [0, 1]
    assert [source[index].captions for index in (0, 1)] == [("a cat on a dog",), ("a dog on a cat",)]
    (tmp_path / "examples.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"with image_0, image_1, caption_0, caption_1"):
        open_source(f"winoground:{tmp_path}")
    with pytest.raises(ConfigError, match=r"examples\.jsonl is not there; it should have image_0, image_1"):
        open_source(f"winoground:{tmp_path / 'nowhere'}")


def test_aro_cuts_to_the_box_and_leaves_out_what_the_authors_do(tmp_path):
    picture(tmp_path / "images" / "1.jpg")
    relations = [
        boxed("1.jpg", "the cat is left of the dog", "the dog is left of the cat", (10, 2, 6, 4), relation_name=name)
        for name in ("to the left of", "to the right of", "near", "riding on")
    ]
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps(relations))
    rare = {"attributes": ["white", "black"]}
    often = {"attributes": ["old", "wooden"]}
    attributes = [boxed("1.jpg", "the white cat", "the black cat", (-2, 0, 5, 50), **rare)] * 24
    attributes += [boxed("1.jpg", "the old hut", "the wooden hut", (-2, 0, 5, 50), **often)] * 25
    (tmp_path / "visual_genome_attribution.json").write_text(json.dumps(attributes))
    source = open_source(f"aro:{tmp_path}")
    assert source.foil_kinds == ("relation", "attribution")
    found = [source.foils("relation", index) for index in range(2)]
    assert sorted(foil.group for foil in found) == ["to the left of", "to the right of"]
    assert found[0].captions == ("the cat is left of the dog", "the dog is left of the cat")
    np.testing.assert_array_equal(found[0].images[0], np.broadcast_to((0, 0, 255), (4, 6, 3)))
    assert {source.foils("attribution", index).group for index in range(25)} == {"old_wooden"}
    assert source.foils("attribution", 0).images[0].shape == (10, 3, 3)  # what lies within the image
    with pytest.raises(IndexError):
        source.foils("attribution", 25)
    assert len(aro.SYMMETRIC) == 157  # as many as the authors list


def test_several_captions_of_an_image_are_read(tmp_path):
    for name in "ab":
        picture(tmp_path / "flickr30k-images" / f"{name}.jpg")
    entries = [{"image": f"flickr30k-images/{name}.jpg", "caption": [name, "both"]} for name in "ab"]
    file = tmp_path / "flickr30k_test.json"
    file.write_text(json.dumps(entries))
    source = open_source(f"karpathy:{file}")
    assert [source[index].captions for index in range(2)] == [("a", "both"), ("b", "both")]
    assert source[1].image == (tmp_path / "flickr30k-images" / "b.jpg").read_bytes()
    with pytest.raises(ConfigError, match=r"2 of its 2 images are not there"):
        open_source(f"karpathy:{file},images={tmp_path / 'flickr30k-images'}")
    file.write_text(json.dumps([{"image": "flickr30k-images/a.jpg", "caption": "a"}]))
    with pytest.raises(ConfigError, match=r"flickr30k_test.json is not as its authors .*no list of captions"):
        open_source(f"karpathy:{file}")


def test_one_split_is_read_of_the_authors_own_files(tmp_path):
    def image(name, split, **more):
        sentences = [{"raw": f"{name} {number}", "tokens": [name], "sentid": number} for number in range(2)]
        return {"filename": f"{name}.jpg", "split": split, "sentences": sentences, **more}

    third = image("c", "val", filepath="val2014")
    entries = [image("a", "train"), image("b", "test", cocoid=391895), third, image("d", "test", cocoid="none")]
    for name in ("b", "val2014/c", "d"):
        picture(tmp_path / f"{name}.jpg")
    file = tmp_path / "dataset_coco.json"
    file.write_text(json.dumps({"images": entries, "dataset": "coco"}))
    source = open_source(f"karpathy:{file}")
    assert [source.captions(index) for index in range(len(source))] == [("b 0", "b 1"), ("d 0", "d 1")]
    assert [source[index].published_id for index in range(len(source))] == [391895, None]
    (only,) = open_source(f"karpathy:{file},split=val")
    assert only.captions == ("c 0", "c 1") and only.image == (tmp_path / "val2014" / "c.jpg").read_bytes()
    with pytest.raises(ConfigError, match="no image of the split 'valid'; it has test, train, val"):
        open_source(f"karpathy:{file},split=valid")
    file.write_text(json.dumps({"images": [{"id": 1, "file_name": "b.jpg"}], "annotations": []}))
    with pytest.raises(ConfigError, match=r"COCO's own annotations are read by python -m mdc_jax.data.prepare.coco"):
        open_source(f"karpathy:{file}")
    file.write_text(json.dumps([{"image": "b.jpg", "caption": ["b"]}]))
    with pytest.raises(ConfigError, match="is of one split: leave out split=val"):
        open_source(f"karpathy:{file},split=val")


def test_cocos_number_of_an_image_stands_in_its_name(tmp_path):
    names = ["COCO_val2014_000000391895.jpg", "391895.jpg"]
    for name in names:
        picture(tmp_path / name)
    file = tmp_path / "coco_karpathy_test.json"
    file.write_text(json.dumps([{"image": name, "caption": ["a"]} for name in names]))
    source = open_source(f"karpathy:{file}")
    assert [source[index].published_id for index in range(2)] == [391895, None]


def test_aro_order_takes_tags_where_they_are_given(tmp_path):
    picture(tmp_path / "val2014" / "1.jpg")
    entries = [{"image": "val2014/1.jpg", "caption": [CAPTION, "Dogs!"]}]
    (tmp_path / "coco_karpathy_test.json").write_text(json.dumps(entries))
    source = open_source(f"aro:{tmp_path}")
    assert source.foil_kinds == ("coco_trigrams",) and len(source) == 1  # "dogs" has one order
    three = source.foils("coco_trigrams", 0).captions
    (tmp_path / "coco_karpathy_test.tags.json").write_text(json.dumps([[TAGS, ["NNS"]]]))
    source = open_source(f"aro:{tmp_path}")
    assert source.foil_kinds == ("coco_order",)
    five = source.foils("coco_order", 0).captions
    assert len(five) == 5 and (five[0], *five[3:]) == three
    (tmp_path / "coco_karpathy_test.tags.json").write_text(json.dumps([[TAGS]]))
    with pytest.raises(ConfigError, match=r"has the tags of 1 captions; .* has 2"):
        open_source(f"aro:{tmp_path}")
    (tmp_path / "coco_karpathy_test.tags.json").write_text(json.dumps([[TAGS[1:], ["NNS"]]]))
    with pytest.raises(ConfigError, match="11 tags for the 12 words"):
        open_source(f"aro:{tmp_path}")
    with pytest.raises(ConfigError, match="holds none of the files of ARO"):
        open_source(f"aro:{tmp_path / 'val2014'}")


def test_shuffles_move_what_they_should_and_never_change():
    caption = word_order.words(CAPTION)
    assert caption == ["two", "brown", "dogs", "chase", "a", "small", "white", "cat,", "on", "the", "wet", "grass"]
    foils = [text.split() for text in word_order.foils(caption, TAGS)]
    assert all(sorted(foil) == sorted(caption) and foil != caption for foil in foils)
    of_tags, others, within, trigrams = foils
    fixed = [place for place, tag in enumerate(TAGS) if tag[:2] not in ("NN", "JJ")]
    moved = [place for place in range(12) if place not in fixed]
    assert [of_tags[place] for place in fixed] == [caption[place] for place in fixed]
    assert {of_tags[place] for place, tag in enumerate(TAGS) if tag == "JJ"} == {"brown", "small", "white", "wet"}
    assert [others[place] for place in moved] == [caption[place] for place in moved]
    for start in range(0, 12, 3):
        assert sorted(within[start : start + 3]) == sorted(caption[start : start + 3])
    parts = {tuple(caption[start : start + 3]) for start in range(0, 12, 3)}
    assert {tuple(trigrams[start : start + 3]) for start in range(0, 12, 3)} == parts
    # Drawn once for all: another shuffle would be another test.
    assert [" ".join(foil) for foil in (within, trigrams)] == WITHIN_AND_OF_TRIGRAMS
    assert word_order.foils(["a", "cat"], None) is None  # one trigram

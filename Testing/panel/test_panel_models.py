"""The model chooser: rows, licence first, progress, verify, remove, and a computer without the packages."""

from __future__ import annotations

import pytest
from panel_doubles import DirectJobs, Entry, Registry

from MedalSLib.errors import ModelError, OutputError
from MedalSLib.panel.model_chooser import ModelsPresenter


class Shop:
    def __init__(self):
        self.registry = Registry()
        self.chosen = "starter"
        self.presenter = ModelsPresenter(lambda: self.registry, lambda: self.chosen, self._choose, DirectJobs())
        self.presenter.refresh()

    def _choose(self, name):
        self.chosen = name

    def row(self, name):
        return next(row for row in self.presenter.rows if row.name == name)


@pytest.fixture
def shop():
    return Shop()


def test_rows_say_what_each_model_knows_its_licence_and_size(shop):
    row = shop.row("starter")
    assert (row.knows, row.licence, row.size) == ("2 in CT, 1 in MRI", "Apache-2.0", "50 MB")
    assert row.usable and row.chosen and not row.removable and not row.installable


def test_a_model_to_be_had_can_be_fetched_and_a_damaged_one_removed(shop):
    assert shop.row("medals-v1").installable
    shop.registry.entries.append(Entry("broken", "Broken", "damaged"))
    shop.presenter.refresh()
    assert shop.row("broken").removable and not shop.row("broken").usable


def test_what_the_chosen_model_knows_is_known_before_it_is_loaded(shop):
    assert "CT_Spleen" in shop.presenter.current.classes


def test_nothing_is_installed_before_the_licence_was_accepted(shop):
    shop.presenter.askLicence("medals-v1")
    assert shop.presenter.question.notice == "Licence of medals-v1"
    assert not shop.registry.accepted
    shop.presenter.declineLicence()
    assert shop.presenter.question is None and not shop.registry.accepted


def test_an_accepted_model_is_installed_and_chosen(shop):
    fractions = []
    shop.presenter.changed.connect(lambda: fractions.append(shop.presenter.fraction))
    shop.presenter.askLicence("medals-v1")
    shop.presenter.acceptLicence()
    assert shop.registry.accepted == [True] and shop.chosen == "medals-v1"
    assert 0.1 in fractions and 1.0 in fractions and fractions[-1] is None
    assert shop.presenter.message.text == "Medal S is installed."


def test_progress_is_said_in_megabytes(shop):
    said = []
    shop.presenter.changed.connect(lambda: said.append(shop.presenter.message.text))
    shop.presenter.askLicence("medals-v1")
    shop.presenter.acceptLicence()
    assert "10 MB of 100 MB" in said


def test_a_download_can_be_cancelled(shop):
    def cancel():
        if shop.presenter.fraction:
            shop.presenter.cancel()

    shop.presenter.changed.connect(cancel)
    shop.presenter.askLicence("medals-v1")
    shop.presenter.acceptLicence()
    assert shop.presenter.message.text == "The installation was cancelled." and not shop.presenter.busy
    assert shop.row("medals-v1").installable


def test_a_full_disk_is_said_and_nothing_is_chosen(shop):
    shop.registry.error = None
    shop.presenter.askLicence("medals-v1")
    shop.registry.error = OutputError("There is no space left.", "Free some.")
    shop.presenter.acceptLicence()
    assert shop.presenter.message.text == "There is no space left. Free some." and shop.chosen == "starter"


def test_a_folder_without_a_model_is_said(shop):
    shop.registry.error = ModelError("The folder holds no model.")
    shop.presenter.askLicence("/somewhere")
    assert shop.presenter.question is None and "holds no model" in shop.presenter.message.text


def test_an_empty_path_is_asked_for(shop):
    shop.presenter.askLicence("  ")
    assert shop.presenter.message.level == "warning"


def test_verify_says_that_all_is_well_or_what_is_not(shop):
    shop.presenter.verify("starter")
    assert shop.presenter.message.level == "success"
    shop.registry.error = ModelError("Wrong checksum.", "Fetch it again.")
    shop.presenter.verify("starter")
    assert shop.presenter.message.text == "Wrong checksum. Fetch it again."


def test_removing_the_chosen_model_chooses_the_bundled_one(shop):
    shop.presenter.askLicence("medals-v1")
    shop.presenter.acceptLicence()
    shop.presenter.remove("medals-v1")
    assert shop.chosen == "starter" and shop.row("medals-v1").installable


def test_a_light_installation_says_where_to_go_instead_of_failing():
    def missing():
        raise ModuleNotFoundError("No module named 'platformdirs'", name="platformdirs")

    presenter = ModelsPresenter(missing, lambda: "starter", lambda name: None, DirectJobs())
    presenter.refresh()
    presenter.askLicence("medals-v1")
    assert presenter.rows == () and presenter.folder == ""
    assert "platformdirs" in presenter.message.text and "Install page" in presenter.message.text


def test_the_real_registry_has_the_functions_that_the_presenter_calls():
    from MedalSLib.network import registry

    for name in ("list_models", "licence_notice", "install", "verify", "remove", "home"):
        assert callable(getattr(registry, name))

"""What a user does with the panel, through its widgets, on a real scene."""

from __future__ import annotations

import gc
import json
import time
import weakref

import numpy as np
import pytest
from slicer_host.phantoms import addVolume, affine, box, paint

SHAPE = (30, 40, 48)


class TestOpening:
    def test_the_module_has_its_icon_in_a_checkout_too(self, strict, slicer_host):
        from pathlib import Path

        from slicer_host.module import loadModule

        _, parent = loadModule(Path(__file__).resolve().parents[2] / "MedalS" / "MedalS.py")
        assert not parent.icon.isNull()

    def test_nothing_is_opened_installed_or_asked_for(self, bench):
        assert bench.opened == [] and bench.model.install.checks == ()
        assert bench.find("badge").text.startswith("○ This computer")

    def test_the_visible_volume_is_chosen_and_described(self, bench):
        assert bench.logic.parameters.volume is bench.ct
        assert bench.find("volumeNote").text == "48 x 40 x 30 voxels of 2 x 2 x 2 mm"
        assert bench.find("modalityCombo").currentText == "CT (detected)"

    def test_it_opens_in_an_empty_scene(self, bench):
        bench.slicer.mrmlScene.RemoveNode(bench.ct)
        bench.settle()
        assert bench.find("messageLabel").text == "Load an image and choose it as the volume."
        assert not bench.find("runButton").enabled


class TestTyping:
    def test_completions_come_while_typing_and_enter_picks_one(self, bench):
        from PySide6 import QtCore

        bench.type("liver, sple")
        completions = bench.view.prompt.completions
        assert completions.visible and completions.item(0).text() == "Spleen"
        bench.press(QtCore.Qt.Key_Return)
        assert bench.view.prompt.edit.plainText == "liver, Spleen, "
        assert not completions.visible

    def test_arrows_choose_and_escape_leaves_the_text(self, bench):
        from PySide6 import QtCore

        bench.type("kid")
        completions = bench.view.prompt.completions
        bench.press(QtCore.Qt.Key_Down)
        assert completions.currentRow == 1
        bench.press(QtCore.Qt.Key_Up)
        bench.press(QtCore.Qt.Key_Up)
        assert completions.currentRow == completions.count - 1
        bench.press(QtCore.Qt.Key_Escape)
        assert not completions.visible and bench.view.prompt.edit.plainText == "kid"

    def test_enter_without_completions_starts_a_new_line(self, bench):
        from PySide6 import QtCore

        bench.type("liver, ")
        bench.press(QtCore.Qt.Key_Return)
        assert bench.view.prompt.edit.plainText == "liver, \n"

    def test_only_what_needs_a_decision_has_a_mark(self, bench):
        import qt

        bench.type("liver, both kidneys, rt kidny, kidney stone")
        marks = {f"chip{index}": "" for index in range(4)} | {
            one.objectName: one.text for one in bench.panel.widget.findChildren(qt.QToolButton) if one.visible
        }
        assert (marks["chip0"], marks["chip1"]) == ("", "")
        assert marks["chip2"] == "≈ rt kidny → Right kidney" and marks["chip3"] == "? kidney stone: not understood"
        assert bench.find("meanings").text == "both kidneys: Right kidney, Left kidney"
        assert bench.view.prompt.edit.accessibleDescription == bench.find("meanings").text
        assert "Near it are" in bench.find("chip3").accessibleName

    def test_a_suggestion_of_a_chip_is_taken_with_a_click(self, bench):
        bench.type("liver, kidney stone")
        actions = bench.find("chip1").menu().actions()
        assert actions[0].text == "Use “Right kidney”"
        actions[0].trigger()
        assert bench.view.prompt.edit.plainText == "liver, Right kidney"

    def test_a_name_is_removed_with_a_click(self, bench):
        bench.type("splen, liver")
        bench.find("chip0").menu().actions()[-1].trigger()
        assert bench.view.prompt.edit.plainText == "liver"

    def test_a_preset_is_added(self, bench):
        menu = bench.find("presetsButton").menu()
        menu.aboutToShow.emit()
        next(action for action in menu.actions() if action.text.startswith("Thoracic organs")).trigger()
        assert bench.view.prompt.edit.plainText == "thoracic organs"

    def test_another_modality_changes_what_names_mean(self, bench):
        bench.type("prostate")
        combo = bench.find("modalityCombo")
        combo.setCurrentIndex(combo.findData("MRI"))
        combo.activated.emit(combo.currentIndex)
        assert bench.logic.parameters.modality == "MRI"
        assert "Chosen by you" in bench.find("modalityNote").text


class TestRunning:
    def test_the_button_segments_and_the_table_shows_it(self, result):
        assert set(result.segments()) == {"Liver", "Spleen"}
        assert result.structures()["Liver"] == ["46.1 ml", "✓ found", "…"]
        assert result.find("messageLabel").text.startswith("✓ 2 of 2 structures found")
        assert result.find("badge").text.startswith("● CPU, 2 threads")

    def test_control_enter_in_the_field_runs(self, bench):
        from PySide6 import QtCore

        bench.type("liver")
        bench.press(QtCore.Qt.Key_Return, QtCore.Qt.ControlModifier)
        assert set(bench.segments()) == {"Liver"}

    def test_structures_appear_and_the_bar_moves_while_the_window_lives(self, bench):
        bench.engine.pause = bench.engine.seconds_per_patch = 0.1
        seen = set()

        def look():
            if bench.model.run.state == "running":
                seen.add((len(bench.segments()), bench.find("progressBar").value, bench.find("cancelButton").enabled))

        bench.during = look
        bench.type("liver, spleen")
        bench.find("runButton").click()
        assert {bar for _, bar, cancellable in seen if cancellable} & {250, 500, 750}
        assert not bench.find("progressBar").visible and not bench.find("cancelButton").visible

    def test_cancel_leaves_the_segments_as_they_were(self, result):
        before = result.mask("Liver")
        result.engine.answers = {"Liver": box(SHAPE, (0, 9), (0, 9), (0, 9))}
        result.engine.pause = 0.3
        result.during = lambda: result.find("cancelButton").click() if result.model.run.rows else None
        result.find("runButton").click()
        assert np.array_equal(result.mask("Liver"), before)
        assert result.find("messageLabel").text == "The run was cancelled."

    def test_the_volume_deleted_in_mid_run_ends_it_kindly(self, bench):
        bench.engine.pause = 0.2

        def delete():
            if bench.model.run.state != "running":
                return
            bench.during = None
            bench.slicer.mrmlScene.RemoveNode(bench.ct)

        bench.type("liver, spleen")
        bench.during = delete
        bench.find("runButton").click()
        bench.settle()
        assert "was removed during the run" in bench.find("messageLabel").text
        assert bench.segments() == {}

    def test_the_scene_closed_in_mid_run_leaves_an_empty_usable_panel(self, bench):
        bench.engine.pause = 0.2

        def close():
            if bench.model.run.state != "running":
                return
            bench.during = None
            bench.slicer.mrmlScene.Clear(0)

        bench.type("liver, spleen")
        bench.during = close
        bench.find("runButton").click()
        bench.settle()
        assert bench.model.run.state == "idle" and bench.logic.parameters.volume is None
        bench.ct = addVolume(bench.slicer.mrmlScene, SHAPE, affine((2, 2, 2)), "Next")
        bench.settle()
        bench.view.prompt.edit.setPlainText("liver")
        bench.engine.pause = 0.0
        bench.find("runButton").click()
        assert set(bench.segments()) == {"Liver"}

    def test_nothing_found_keeps_the_segments_and_says_so(self, result):
        before = result.mask("Liver")
        result.engine.answers = {}
        result.find("runButton").click()
        assert "Nothing was found" in result.find("messageLabel").text
        assert np.array_equal(result.mask("Liver"), before)

    def test_a_name_that_only_the_open_model_does_not_know_is_marked(self, result):
        result.view.prompt.edit.setPlainText("liver, aorta")
        assert result.find("chip1").text == "✕ aorta: not in this model"

    def test_the_cost_is_said_once_the_model_is_loaded(self, result):
        result.view.prompt.edit.setPlainText("liver")
        result.settle(("_refreshTimer", "_estimateTimer"))
        assert result.find("estimateLabel").text == "About 1 s, 10 MB of memory on CPU, 2 threads"


class TestReviewing:
    def test_before_and_after_shows_the_former_segments_without_touching_the_result(self, result):
        result.engine.answers["Liver"] = box(SHAPE, (4, 10), (5, 10), (6, 10))
        result.find("runButton").click()
        after = result.mask("Liver")
        node = result.logic.parameters.segmentation
        result.find("compareButton").click()
        former = result.slicer.mrmlScene.GetFirstNodeByName(f"{node.GetName()} before")
        assert former is not None and not node.GetDisplayNode().GetSegmentVisibility(result.segments()["Liver"])
        result.find("compareButton").click()
        assert result.slicer.mrmlScene.GetFirstNodeByName(f"{node.GetName()} before") is None
        assert node.GetDisplayNode().GetSegmentVisibility(result.segments()["Liver"])
        assert np.array_equal(result.mask("Liver"), after)

    def test_revert_takes_the_run_back_and_undo_brings_it_again(self, result):
        result.find("revertButton").click()
        result.settle()
        assert result.segments() == {}
        result.view.refine.editor.undo()
        result.settle()
        assert set(result.segments()) == {"Liver", "Spleen"}

    def test_one_undo_takes_the_whole_run_back(self, result):
        result.view.refine.editor.undo()
        assert result.segments() == {}
        result.view.refine.editor.redo()
        assert set(result.segments()) == {"Liver", "Spleen"}

    def test_undo_and_redo_have_buttons(self, result):
        result.find("undoButton").click()
        result.settle()
        assert result.segments() == {} and result.structures()["Liver"] == ["", "- no longer there", ""]
        assert result.find("messageLabel").visible is False
        result.find("redoButton").click()
        assert set(result.segments()) == {"Liver", "Spleen"}

    def test_holding_a_key_shows_what_was_before_for_a_moment(self, result):
        result.engine.answers["Liver"] = box(SHAPE, (4, 10), (5, 10), (6, 10))
        result.find("runButton").click()
        result.view.refine.keys["C"]()
        assert result.model.run.comparing and result.find("compareButton").checked
        result.view.refine._looking.setInterval(1)
        result.view.refine.keys["C"]()  # the key repeats while it is held
        for _ in range(500):
            result.application.processEvents()
            time.sleep(0.002)
            if not result.model.run.comparing:
                break
        assert not result.find("compareButton").checked


class TestScene:
    def test_the_state_survives_saving_and_loading(self, result, tmp_path):
        combo = result.find("overlapCombo")
        combo.setCurrentIndex(combo.findData("keep"))
        combo.activated.emit(combo.currentIndex)
        scene = result.slicer.mrmlScene
        path = tmp_path / "scene.mrml"
        scene.SetURL(str(path))
        assert scene.Commit(str(path))
        scene.Clear(0)
        result.settle()
        assert result.view.prompt.edit.plainText == ""
        scene.SetURL(str(path))
        scene.Import()
        result.settle()
        assert result.view.prompt.edit.plainText == "liver, spleen"
        assert result.logic.parameters.overlap.value == "keep"

    @pytest.mark.parametrize("refined", [False, True])
    def test_corrections_are_still_protected_after_saving_and_loading(self, result, tmp_path, refined):
        node = result.logic.parameters.segmentation
        paint(
            result.logic.runner.editing,
            node,
            result.segments()["Liver"],
            result.ct,
            box(SHAPE, (20, 22), (5, 9), (6, 9)),
        )
        result.settle()
        if refined:
            result.find("runButton").click()
        assert node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(tmp_path / "found.seg.nrrd"))
        assert node.GetStorageNode().WriteData(node)
        result.slicer.mrmlScene.RemoveNode(node)
        loaded = result.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        loaded.AddDefaultStorageNode()
        loaded.GetStorageNode().SetFileName(str(tmp_path / "found.seg.nrrd"))
        assert loaded.GetStorageNode().ReadData(loaded)
        result.logic.parameters.segmentation = loaded
        result.settle()
        result.view.refresh()
        assert "corrections of Liver" in result.find("replacedLabel").text
        liver = result.mask("Liver")
        result.find("runButton").click()
        assert result.engine.asked[-1].prompts == ("Spleen",) and np.array_equal(result.mask("Liver"), liver)

    def test_another_volume_brings_its_own_segmentation(self, result):
        first = result.logic.parameters.segmentation
        other = addVolume(result.slicer.mrmlScene, SHAPE, affine((1, 1, 1)), "CT chest")
        result.settle()
        result.view.inputs.volume.setCurrentNode(other)
        result.settle()
        assert result.logic.parameters.segmentation is None
        assert result.table("structuresTable") == []
        result.view.inputs.volume.setCurrentNode(result.ct)
        result.settle()
        assert result.logic.parameters.segmentation is first

    def test_another_image_in_the_views_is_said_and_chosen_with_a_click(self, result):
        from slicer_host.views import Views

        views, button = Views(result.host), result.find("followViewsButton")
        views.show(result.ct)
        result.view.refresh()
        assert not button.visible
        other = addVolume(result.slicer.mrmlScene, SHAPE, affine((1, 1, 1)), "Next study")
        views.show(other)
        result.settle()
        assert button.visible and button.text == "The views show Next study: use it"
        assert result.logic.parameters.volume is result.ct
        button.click()
        result.settle()
        assert result.logic.parameters.volume is other and not button.visible
        views.close()

    def test_a_volume_with_colours_is_refused_in_words(self, bench):
        node = bench.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
        import vtk

        image = vtk.vtkImageData()
        image.SetDimensions(4, 4, 4)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        node.SetAndObserveImageData(image)
        bench.logic.parameters.volume = node
        bench.settle()
        bench.view.refresh()
        assert "3 values in each voxel" in bench.find("volumeNote").text
        assert not bench.find("runButton").enabled

    def test_a_volume_under_a_bending_transform_is_remarked_on(self, bench):
        from slicer_host.phantoms import addWarp

        assert not bench.find("volumeNote").visible
        bench.ct.SetAndObserveTransformNodeID(addWarp(bench.slicer.mrmlScene).GetID())
        bench.settle()
        assert "A transform bends this image" in bench.find("volumeNote").text and bench.find("volumeNote").visible

    def test_changed_intensities_are_looked_at_again(self, bench):
        array = bench.slicer.util.arrayFromVolume(bench.ct)
        array[:, :3] = -1000
        bench.slicer.util.arrayFromVolumeModified(bench.ct)
        bench.settle()
        assert "with air and bone" in bench.find("modalityNote").text

    def test_frames_are_offered_for_a_time_series_only(self, bench):
        assert not bench.find("framesCombo").visible
        slicer = bench.slicer
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "CTP")
        for frame in range(3):
            sequence.SetDataNodeAtValue(bench.ct, str(frame))
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        browser.AddSynchronizedSequenceNode(sequence)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(sequence)
        bench.view.inputs.volume.setCurrentNode(proxy)
        bench.settle()
        combo = bench.find("framesCombo")
        assert combo.visible and combo.itemText(1) == "All 3 frames"
        combo.setCurrentIndex(1)
        combo.activated.emit(1)
        bench.type("liver")
        bench.find("runButton").click()
        assert len(bench.engine.asked) == 3


class TestServer:
    @pytest.fixture
    def remote(self, bench):
        combo = bench.find("engineKind")
        combo.setCurrentIndex(combo.findData("remote"))
        combo.activated.emit(combo.currentIndex)
        bench.find("serverUrl").text = "https://seg.example"
        bench.find("serverKey").text = "s3cret-key"
        bench.find("testButton").click()
        bench.type("liver")
        return bench

    def test_the_connection_is_tested_with_address_and_key(self, remote):
        assert (remote.opened[0].url, remote.opened[0].key) == ("https://seg.example", "s3cret-key")
        assert remote.find("engineMessage").text.startswith("✓ Connected: Fake model")

    def test_the_key_is_in_no_setting_and_not_in_the_scene(self, remote):
        from qt_host.settings import stored

        scene = remote.slicer.mrmlScene
        scene.SetSaveToXMLString(1)
        scene.Commit()
        assert "s3cret-key" not in json.dumps(stored) and "s3cret-key" not in scene.GetSceneXMLString()
        scene.SetSaveToXMLString(0)

    def test_the_first_image_for_a_server_is_asked_about(self, remote):
        remote.find("runButton").click()
        assert remote.engine.asked == [] and remote.find("consentBox").visible
        text = remote.find("consentText").text
        assert "seg.example" in text and "Not sent: the patient's name" in text
        remote.find("consentAllow").click()
        assert len(remote.engine.asked) == 1 and not remote.find("consentBox").visible
        remote.find("runButton").click()
        assert len(remote.engine.asked) == 2

    def test_a_no_sends_nothing(self, remote):
        remote.find("runButton").click()
        remote.find("consentDecline").click()
        assert remote.engine.asked == [] and "Nothing was sent" in remote.find("messageLabel").text

    def test_consent_is_taken_back_on_the_engine_page(self, remote):
        remote.find("runButton").click()
        remote.find("consentAllow").click()
        remote.find("consentForget").click()
        remote.find("runButton").click()
        assert remote.find("consentBox").visible


class TestManners:
    def test_shortcuts_work_only_while_the_module_is_shown(self, bench):
        assert all(shortcut.enabled for shortcut in bench.view._shortcuts)
        assert bench.view.refine.editor._shortcuts and bench.view.refine.editor._observing
        bench.panel.exit()
        assert not any(shortcut.enabled for shortcut in bench.view._shortcuts)
        assert not bench.view.refine.editor._shortcuts and not bench.view.refine.editor._observing
        bench.panel.enter()
        assert all(shortcut.enabled for shortcut in bench.view._shortcuts)

    def test_no_tool_of_the_editor_stays_active_when_another_module_is_shown(self, bench):
        """It would go on painting: the mouse in the views belongs to the other module now."""
        editor = bench.view.refine.editor
        editor.setActiveEffectByName("Paint")
        assert editor.activeEffect() is not None
        bench.panel.exit()
        assert editor.activeEffect() is None

    def test_no_tool_of_the_editor_stays_active_on_a_closed_scene(self, bench):
        bench.view.refine.editor.setActiveEffectByName("Paint")
        bench.slicer.mrmlScene.Clear(0)
        assert bench.view.refine.editor.activeEffect() is None

    def test_the_results_of_a_closed_scene_are_freed(self, result):
        """What could be reverted holds the voxels of a patient's segments."""
        before = weakref.ref(result.logic.runner.last)
        assert result.model.run.canReview and before() is not None
        result.slicer.mrmlScene.Clear(0)
        result.settle()
        gc.collect()
        assert not result.model.run.canReview
        assert before() is None

    def test_the_engine_is_closed_with_the_panel_and_the_image_in_it_first(self, bench):
        closed = []
        bench.engine.close = lambda: closed.append(bench.engine.sessions_closed)
        bench.type("liver")
        bench.find("runButton").click()
        assert (bench.engine.sessions_closed, closed) == (0, [])
        bench.panel.cleanup()
        assert closed == [1]  # sessions that were closed before the engine
        assert not bench.model.engines.isOpen

    def test_every_control_has_a_name_for_screen_readers(self, result):
        import qt

        nameless = []
        for kind in (qt.QAbstractButton, qt.QComboBox, qt.QLineEdit, qt.QPlainTextEdit, qt.QTableWidget):
            for widget in result.panel.widget.findChildren(kind):
                inside = type(widget.parent()).__name__.startswith(("qMRML", "ctk", "QTabBar", "QTable", "QScroll"))
                text = getattr(widget, "text", "") if isinstance(widget, qt.QAbstractButton) else ""
                if not inside and not text and not widget.accessibleName and widget.objectName[:3] != "qt_":
                    nameless.append((type(widget).__name__, widget.objectName))
        assert nameless == []

    def test_the_diagnostics_are_copied(self, bench):
        import qt

        bench.model.install.gatherFacts = _facts
        bench.find("copyButton").click()
        text = qt.QApplication.clipboard().text()
        assert "Medal S" in text and "CT abdomen" not in text

    def test_a_panel_that_was_closed_reacts_to_nothing(self, bench):
        bench.panel.cleanup()
        bench.logic.close()
        addVolume(bench.slicer.mrmlScene, SHAPE, affine((1, 1, 1)), "Later")
        bench.slicer.mrmlScene.Clear(0)
        bench.settle()
        bench.panel.widget.deleteLater()
        bench.panel = None


def _facts():
    from MedalSLib.panel.install.system import SystemFacts

    return SystemFacts((5, 12), (3, 12), "Linux", "x86_64", "/opt/Slicer", 2**36, 2**35, network="")

"""The stand-in is as strict as PythonQt is, and stricter where PythonQt would be silent."""

from __future__ import annotations

import pytest
from qt_host import journal


@pytest.fixture
def qt(strict):
    import qt

    return qt


def test_a_property_is_an_attribute_and_hides_its_getter(qt):
    label = qt.QLabel("a")
    label.text = "b"
    assert label.text == "b"
    with pytest.raises(TypeError, match="not callable"):
        label.text()
    label.setText("c")
    assert label.text == "c" and label.isEnabled() and label.enabled


def test_an_attribute_that_no_cpp_object_has_cannot_be_set(qt):
    with pytest.raises(AttributeError, match="no property"):
        qt.QPushButton().madeUp = 1


def test_a_python_subclass_may_have_attributes_but_not_in_the_place_of_methods(qt):
    class Mine(qt.QWidget):
        pass

    mine = Mine()
    mine.colour = "red"
    assert mine.colour == "red"
    with pytest.raises(AttributeError, match="refuses to overwrite"):
        mine.layout = None


def test_a_read_only_property_cannot_be_set(qt):
    with pytest.raises(AttributeError):
        qt.QWidget().width = 5


def test_constructors_take_no_keywords(qt):
    with pytest.raises(TypeError, match="no keywords"):
        qt.QLabel("a", objectName="b")


def test_a_signal_that_does_not_exist_raises(qt):
    with pytest.raises(AttributeError, match="no signal"):
        qt.QPushButton().connect("clickd(bool)", print)
    with pytest.raises(AttributeError, match="no signal"):
        qt.QPushButton().connect("clicked(int)", print)


def test_arguments_are_cut_to_what_the_function_takes_defaults_included(qt):
    button, got = qt.QPushButton(), []
    button.checkable = True
    button.connect("clicked(bool)", lambda: got.append("none"))
    button.connect("clicked(bool)", lambda value=7: got.append(value))
    button.toggled.connect(lambda value: got.append(("toggled", value)))
    button.click()
    assert got == [("toggled", True), "none", True]


def test_disconnecting_what_was_never_connected_raises(qt):
    button, got = qt.QPushButton(), []

    def slot():
        got.append(1)

    button.connect("clicked()", slot)
    button.disconnect("clicked()", slot)
    button.click()
    assert got == []
    with pytest.raises(RuntimeError, match="not connected"):
        button.disconnect("clicked()", slot)


def test_an_exception_in_a_slot_does_not_stop_the_caller_and_fails_the_test(qt):
    def broken():
        raise ValueError("broken slot")

    button = qt.QPushButton()
    button.connect("clicked()", broken)
    button.click()
    with pytest.raises(AssertionError, match="broken slot"):
        journal.check()


def test_a_modal_dialog_without_a_prepared_answer_raises(qt):
    with pytest.raises(AssertionError, match=r"QMessageBox\.question"):
        qt.QMessageBox.question(None, "a", "b")
    journal.clear()
    journal.answers.append("/data")
    assert qt.QFileDialog.getExistingDirectory() == "/data"
    with pytest.raises(AssertionError):
        qt.QDialog().exec()
    journal.clear()


@pytest.mark.parametrize("name", ["Signal", "Slot", "QRegExp", "QDesktopWidget", "NoSuchClass"])
def test_names_that_slicers_qt_does_not_have_are_refused(qt, name):
    with pytest.raises(AttributeError):
        getattr(qt, name)


def test_settings_come_back_as_texts(qt):
    qt.QSettings().setValue("MedalS/x", True)
    assert qt.QSettings().value("MedalS/x") == "true"


def test_lists_come_back_as_tuples_and_enumerations_as_numbers(qt):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLVolumeNode"]
    assert selector.nodeTypes == ("vtkMRMLVolumeNode",)
    assert qt.QToolButton().popupMode == 0


def test_the_mrml_selector_follows_the_scene(qt, scene):
    import slicer

    selector, seen = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    selector.setMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    selector.setCurrentNode(node)
    assert seen == [node] and selector.currentNodeID == node.GetID()
    scene.RemoveNode(node)
    assert seen[-1] is None
    with pytest.raises(AttributeError):
        selector.setNodeTypes([])
    selector.setMRMLScene(None)

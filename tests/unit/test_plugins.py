import sys

import pytest

from waistline import plugins
from waistline.errors import ConfigError, MissingExtra


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable plug-in package with one good, one lacking and one broken plug-in."""
    root = tmp_path / "zoo_of_plugins"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "base.py").write_text("")
    (root / "_helper.py").write_text("")
    (root / "good.py").write_text("VALUE = 7\n")
    (root / "onnxruntime.py").write_text("import onnxruntime_that_is_not_there\n")
    (root / "prometheus.py").write_text("import prometheus_client.no_such_part\n")
    (root / "broken.py").write_text("import waistline.no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield root.name
    for name in [name for name in sys.modules if name.startswith(root.name)]:
        del sys.modules[name]


def test_names_come_from_files_and_nothing_is_imported(package):
    assert plugins.names(package) == ["broken", "good", "onnxruntime", "prometheus"]
    assert f"{package}.good" not in sys.modules


def test_load_imports_only_the_one_asked_for(package):
    assert plugins.load(package, "good").VALUE == 7
    assert f"{package}.broken" not in sys.modules


def test_an_unknown_name_lists_the_known_ones_and_offers_the_nearest(package):
    with pytest.raises(ConfigError) as caught:
        plugins.load(package, "goood")
    assert "broken, good, onnxruntime" in caught.value.cause
    assert "'good'" in caught.value.fix


@pytest.mark.parametrize("name", ["../good", "_helper", "base", "good.VALUE", ""])
def test_only_listed_names_are_ever_imported(package, name):
    with pytest.raises(ConfigError):
        plugins.load(package, name)


def test_a_missing_third_party_module_is_named_with_its_fix(package):
    with pytest.raises(MissingExtra) as caught:
        plugins.load(package, "onnxruntime")
    assert "onnxruntime_that_is_not_there" in caught.value.what
    assert "pip install" in caught.value.fix


def test_the_fix_names_the_extra_that_brings_the_module():
    error = plugins.missing_extra("prometheus_client.core", needed_by="metrics")
    assert error.fix.endswith("-m pip install 'waistline[edge]'")


def test_the_fix_is_never_a_package_that_only_bears_the_name_of_the_module():
    error = plugins.missing_extra("serial.tools", needed_by="serial")
    assert "'pyserial'" in error.what
    assert error.fix.endswith("-m pip install 'waistline[mcu]'")
    assert "'nvidia-ml-py'" in plugins.missing_extra("pynvml", needed_by="counter").what


def test_a_bug_inside_the_house_is_not_mistaken_for_a_missing_extra(package):
    with pytest.raises(ModuleNotFoundError) as caught:
        plugins.load(package, "broken")
    assert not isinstance(caught.value, MissingExtra)

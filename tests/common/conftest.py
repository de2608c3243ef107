"""transformers' common tests import helpers that its source distribution does not have; here is what stands in for them.

Nothing in this suite needs them: no model generates, exports are not among its tests, and no file is downloaded.
"""

import sys
from types import ModuleType

ABSENT = {
    "tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "tests.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "tests.utils.test_configuration_utils": {"config_common_kwargs": {}},  # for configurations without parts only
    "fetch_hub_objects_for_ci": {"url_to_local_path": lambda url: url},
}

for name, contents in ABSENT.items():
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(contents)

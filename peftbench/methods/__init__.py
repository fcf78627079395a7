"""The methods. Importing this package registers our own peft tuners, so that `PeftModel.from_pretrained` reads them.

A method of the peft library is one YAML file in conf/method. A new kind is that file and one module here.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

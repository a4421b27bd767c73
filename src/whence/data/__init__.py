from whence.data.dataset import Batch, Dataset
from whence.data.loading import Source, load
from whence.data.tasks import Classification, Regression, Task

__all__ = ["Batch", "Classification", "Dataset", "Regression", "Source", "Task", "load"]

"""The same job on other task queues, as their own documentation would have it. They import nothing of this project."""

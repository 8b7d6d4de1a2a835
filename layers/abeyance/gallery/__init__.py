"""Collections, faces and users: stored in DynamoDB, searched exactly in memory.

The import of this package is free of numpy and AWS; import from its modules:

============ ========================================================================
model        the values that are stored and returned (:class:`~abeyance.gallery.model.Face`, …)
facade       :class:`~abeyance.gallery.facade.Gallery`, with the methods of its stores
store        :class:`~abeyance.gallery.store.DynamoGallery`, on DynamoDB and S3
search       :class:`~abeyance.gallery.search.Searcher`, exact and never stale
vector_index :class:`~abeyance.gallery.vector_index.IndexSearcher`, for more than fits in memory
errors       the errors, each with what to do about it
============ ========================================================================

A :class:`~abeyance.gallery.facade.Gallery` is composed of stores that share one
:class:`~abeyance.gallery.storage.Storage`: ``collections``, ``faces``, ``users``, ``changelog`` and ``snapshots``.
A write is a :class:`~abeyance.gallery.draft.Draft`; ``items`` has the layout of the table. A search is a
:class:`~abeyance.gallery.matrix.Matrix` (``segments`` fill it), scanned by ``exact`` with one of the ``kernels``.
"""

"""Collections, faces and users: stored in DynamoDB, searched exactly in memory.

The import of this package is free of numpy and AWS; take what you need from its modules:

============ ========================================================================
model        what is stored and returned (:class:`~abeyance.gallery.model.Face`, …)
port         :class:`~abeyance.gallery.port.Gallery`, what every gallery can do
store        :class:`~abeyance.gallery.store.DynamoGallery`, on DynamoDB and S3
memory       :class:`~abeyance.gallery.memory.InMemoryGallery`, for tests and trials
search       :class:`~abeyance.gallery.search.Searcher`, exact and never stale
vector_index :class:`~abeyance.gallery.vector_index.IndexSearcher`, past what fits in memory
errors       what can go wrong, and what to do about it
============ ========================================================================
"""

"""The ledger's lookup index in Athena: a table over its files, a workgroup, and the queries that auditors ask first.

Nothing is copied: the files are those that ``abeyance ledger show`` reads. Results stay in Athena's own storage for a
day, so there is no bucket of them. https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html
"""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3 as s3

from abeyance.ledger.index_files import ENTRIES
from abeyance.ledger.query import IndexRow
from constructs import Construct
from infra.config import Config

#: First day for which Athena looks for files; it looks for one of each day that a query does not leave out.
_FIRST_DAY = "2020-01-01"
_TYPES = {"index": "bigint", "flags": "array<string>"}
#: Name -> what it is for, and its SQL with ? for what is asked.
QUERIES = {
    "entry": (
        "The entry with an id, of some days",
        "SELECT * FROM entries WHERE day BETWEEN ? AND ? AND id = ?",
    ),
    "tenant-day": (
        "The entries of a tenant on a day",
        'SELECT * FROM entries WHERE day = ? AND tenant = ? ORDER BY "index"',
    ),
    "denials": (
        "Denials a day, tenant and action",
        "SELECT day, tenant, action, count(DISTINCT id) AS denials FROM entries "
        "WHERE day BETWEEN ? AND ? AND outcome = 'deny' GROUP BY day, tenant, action ORDER BY denials DESC",
    ),
    "halted-by": (
        "Decisions with a moratorium, a day and tenant",
        "SELECT day, tenant, outcome, count(DISTINCT id) AS decisions FROM entries "
        "WHERE day BETWEEN ? AND ? AND contains(flags, ?) GROUP BY day, tenant, outcome ORDER BY day, tenant",
    ),
    "types": (
        "Entries a day and type",
        "SELECT day, type, count(DISTINCT id) AS entries FROM entries "
        "WHERE day BETWEEN ? AND ? GROUP BY day, type ORDER BY day, type",
    ),
}


class LookupQueries(Construct):
    """Database, table, workgroup and named queries over the lookup index."""

    def __init__(self, scope: Construct, construct_id: str, config: Config, bucket: s3.IBucket) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        name = config.name.replace("-", "_")
        database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=stack.account,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=name, description="The ledger's lookup index, which proves nothing"
            ),
        )
        place = bucket.s3_url_for_object(ENTRIES)
        table = glue.CfnTable(
            self,
            "Table",
            catalog_id=stack.account,
            database_name=name,
            table_input=glue.CfnTable.TableInputProperty(
                name="entries",
                table_type="EXTERNAL_TABLE",
                partition_keys=[_column("day", "string")],
                parameters={
                    "projection.enabled": "true",
                    "projection.day.type": "date",
                    "projection.day.format": "yyyy-MM-dd",
                    "projection.day.range": f"{_FIRST_DAY},NOW+1DAYS",
                    "storage.location.template": f"{place}day=${{day}}/",
                },
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    location=place,
                    columns=[
                        _column(field, _TYPES.get(field, "string")) for field in IndexRow.__struct_fields__
                    ],
                    input_format="org.apache.hadoop.mapred.TextInputFormat",
                    output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library="org.openx.data.jsonserde.JsonSerDe"
                    ),
                ),
            ),
        )
        table.add_dependency(database)
        workgroup = athena.CfnWorkGroup(
            self,
            "Workgroup",
            name=config.name,
            description="Queries over the ledger's lookup index",
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                managed_query_results_configuration=athena.CfnWorkGroup.ManagedQueryResultsConfigurationProperty(
                    enabled=True
                ),
            ),
        )
        for query, (about, sql) in QUERIES.items():
            made = athena.CfnNamedQuery(
                self,
                "".join(part.capitalize() for part in query.split("-")),
                database=name,
                name=query,
                description=about,
                query_string=sql,
                work_group=config.name,
            )
            made.add_dependency(workgroup)
        #: ARNs of the workgroup, and of what Glue describes.
        self.workgroup = stack.format_arn(service="athena", resource="workgroup", resource_name=config.name)
        self.catalog = [
            stack.format_arn(service="glue", resource=resource)
            for resource in ("catalog", f"database/{name}", f"table/{name}/entries")
        ]


def _column(name: str, kind: str) -> glue.CfnTable.ColumnProperty:
    return glue.CfnTable.ColumnProperty(name=name, type=kind)

"""Rules of AwsSolutions that we do not follow, each where it is not followed and with its reason."""

from __future__ import annotations

import re

from aws_cdk import Acknowledgment, Validations

from constructs import Construct

#: (end of a construct's path, rule, reason). The path is matched as a regular expression.
RULES: tuple[tuple[str, str, str], ...] = (
    (
        r"/PseudonymKey$",
        "AwsSolutions-SMG4",
        "It names objects in an append-only ledger: a rotated key could not find what the old one hid. The secret "
        "opens nothing.",
    ),
    (
        r"/Console/SessionKey$",
        "AwsSolutions-SMG4",
        "Another value ends every session at once, in the middle of a judgement too: that is for a person to do, when "
        "it has to be (docs/console.md).",
    ),
    (
        r"/Console/Http/ANY--console",
        "AwsSolutions-APIG4",
        "A browser brings a session cookie, which no authoriser of an HTTP API can read: the function checks it before "
        "anything else, and sends everybody without one to the identity provider.",
    ),
    (
        r"/Events/Undelivered$",
        "AwsSolutions-SQS3",
        "It is the dead-letter queue of the rules; one of its own would be the end of a chain without end.",
    ),
    (
        r"Function/Function$",
        "AwsSolutions-L1",
        "The runtime is the one that the pinned wheels of the layers are for; they change together.",
    ),
    (
        r"/Api/Rest$",
        "AwsSolutions-APIG2",
        "The function validates requests: a wrong one must be answered with Rekognition's own error names.",
    ),
    (
        r"/Api/Rest/DeploymentStage.live$",
        "AwsSolutions-APIG3",
        "Only signed requests of principals of registered tenants are served, and API Gateway throttles; a web "
        "firewall has nothing to look at in signed JSON.",
    ),
    (
        r"/Api/Rest/DeploymentStage.live$",
        "AwsSolutions-APIG6",
        "Execution logs would hold request bodies, which are photos. The access log has what operating needs.",
    ),
    *(
        (
            r"Function/Policy$",
            f"AwsSolutions-IAM5[Resource::AbeyanceState:ExportsOutputFnGetAttBuckets{bucket}/*]",
            "Objects of one named bucket; their keys are the tenants' to choose.",
        )
        for bucket in (
            "Chips87133D87ArnCC71F397",
            "Gallery8A22B053Arn3B3A1C31",
            "ResultsB59121EAArn03CB8BCE",
            "UploadsDA8F1F54Arn09F84EE9",
            "LedgerFDEB804AArnCA7874F2",
        )
    ),
    (
        r"/(FlagPipeline|FlagsFunction|ConsoleFunction)/Policy$",
        "AwsSolutions-IAM5[Resource::*]",
        "ListApplications, ListDeploymentStrategies and ListSchedules take no resource.",
    ),
    (
        r"/(FlagPipeline|FlagsFunction|ConsoleFunction)/Policy$",
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:appconfig:<AWS::Region>:<AWS::AccountId>:"
        "application/<MoratoriaApplication0EB243DB>/configurationprofile/<MoratoriaProfile72B6730C>"
        "/hostedconfigurationversion/*]",
        "Versions of one named profile; AppConfig numbers them.",
    ),
    (
        r"/(FlagPipeline|FlagsFunction|ConsoleFunction)/Policy$",
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:appconfig:<AWS::Region>:<AWS::AccountId>:"
        "application/<MoratoriaApplication0EB243DB>/environment/<MoratoriaEnvironment7869D641>/depl"
        "oyment/*]",
        "Deployments of one named environment; AppConfig numbers them.",
    ),
    (
        r"/FlagsFunction/Policy$",
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:scheduler:<AWS::Region>:<AWS::AccountId>:"
        "schedule/abeyance-moratoria/*]",
        "Schedules of one named group; they are named by their announcement.",
    ),
    (
        r"/(Recognize|Api)Function/NetworkPolicy$",
        "AwsSolutions-IAM5[Resource::*]",
        "Lambda makes the network interfaces, which have no name before.",
    ),
    (
        r"/Ecs/Network/\w+/SecurityGroup$",
        "AwsSolutions-EC23",
        "Open to the network's own addresses only; the rule cannot resolve them, which are a reference.",
    ),
    (
        r"/Ecs/InstanceRole/DefaultPolicy$",
        "AwsSolutions-IAM5[Action::ecs:Submit*]",
        "SubmitContainerStateChange and its two siblings: what an ECS instance tells its cluster.",
    ),
    (
        r"/Ecs/InstanceRole/DefaultPolicy$",
        "AwsSolutions-IAM5[Resource::*]",
        "Discovering the endpoint to poll, and the registry's token, take no resource.",
    ),
    (
        r"/Ecs/Task/ExecutionRole/DefaultPolicy$",
        "AwsSolutions-IAM5[Resource::*]",
        "A token for the registry takes no resource.",
    ),
    (
        r"/Ecs/Group/ASG$",
        "AwsSolutions-AS3",
        "Instances come and go with the queue, by design; what fails shows in the queue's alarm.",
    ),
    (
        r"/Ecs/Task$",
        "AwsSolutions-ECS2",
        "The variable is the public name of a model, not a secret.",
    ),
    (
        r"/Ecs/Balancer$",
        "AwsSolutions-ELB2",
        "Two functions are its only clients; the network's flow log has their connections, and theirs the rest.",
    ),
    (
        r"/SageMaker/Policy$",
        "AwsSolutions-IAM5[Resource::*]",
        "A token for the registry takes no resource.",
    ),
    (
        r"/SageMaker/Policy$",
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:"
        "log-group:/aws/sagemaker/InferenceComponents/abeyance-embedder*]",
        "The streams of one named log group.",
    ),
    (
        r"/Api/Rest/Default/POST$",
        "AwsSolutions-COG4",
        "Requests are authorised by IAM, as the AWS SDKs sign them.",
    ),
)

#: What a wildcard in a policy's resource may be, by its end.
WILDCARDS = (
    r"<Buckets\w+>/\*$",
    r"/environment/<\w+>/deployment/\*$",
    r"/configurationprofile/<\w+>/hostedconfigurationversion/\*$",
    r":schedule/[\w-]+/\*$",
    r":log-group:/aws/sagemaker/InferenceComponents/[\w-]+\*$",
)
#: Actions that take no resource, so that ``*`` is all that they can be given.
WITHOUT_RESOURCE = frozenset(
    {
        "appconfig:ListApplications",
        "appconfig:ListDeploymentStrategies",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "ecr:GetAuthorizationToken",
        "scheduler:ListSchedules",
    }
)


def acknowledge(scope: Construct) -> None:
    """Note every exception on its construct; call it when the tree is complete."""
    for construct in scope.node.find_all():
        path = "/" + construct.node.path
        for pattern, rule, reason in RULES:
            if re.search(pattern, path):
                Validations.of(construct).acknowledge(
                    Acknowledgment(id=f"AwsSolutions::{rule}", reason=reason)
                )

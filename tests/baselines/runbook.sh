#!/usr/bin/env bash
# The hand-run runbook as a script: the baseline of the benchmark. Corrected only where it cannot run here: endpoints
# and kubeconfigs are the lab's, the record's hosted zone is that of us-west-2, and the public name is asked at the
# load balancer that it points to.
#
#   runbook.sh check | failover
#
# EAST, WEST: endpoints; EAST_KUBECONFIG, WEST_KUBECONFIG; WEST_LB: host:port of the load balancer.
set -uo pipefail

endpoint() { if [ "$AWS_REGION" = us-east-1 ]; then echo "$EAST"; else echo "$WEST"; fi; }
aws_() { aws --endpoint-url "$(endpoint)" --region "$AWS_REGION" "$@"; }

check() {
  export AWS_REGION=us-east-1 KUBECONFIG=$EAST_KUBECONFIG
  kubectl get nodes
  aws_ rds describe-db-instances --db-instance-identifier maip-prod-postgres \
    --query 'DBInstances[0].DBInstanceStatus'
  aws_ kafka describe-cluster-v2 --cluster-arn "$(aws_ kafka list-clusters-v2 \
    --query "ClusterInfoList[?ClusterName=='maip-prod-kafka'].ClusterArn" --output text)" \
    --query 'ClusterInfo.State'
  export AWS_REGION=us-west-2 KUBECONFIG=$WEST_KUBECONFIG
  kubectl get nodes
  aws_ rds describe-db-instances --db-instance-identifier maip-prod-postgres-replica \
    --query 'DBInstances[0].DBInstanceStatus'
}

failover() {
  set -e
  export AWS_REGION=us-east-1
  KUBECONFIG=$EAST_KUBECONFIG kubectl get nodes || echo "the primary does not answer"

  export AWS_REGION=us-west-2
  aws_ rds promote-read-replica --db-instance-identifier maip-prod-postgres-replica
  aws_ rds wait db-instance-available --db-instance-identifier maip-prod-postgres-replica
  aws_ rds describe-db-instances --db-instance-identifier maip-prod-postgres-replica \
    --query 'DBInstances[0].{Status:DBInstanceStatus,Role:ReadReplicaSourceDBInstanceIdentifier}'

  export AWS_REGION=us-east-1
  zone=$(aws_ route53 list-hosted-zones --query "HostedZones[?Name=='maip.example.com.'].Id" --output text)
  aws_ route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch '{
    "Changes": [{ "Action": "UPSERT", "ResourceRecordSet": {
      "Name": "api.maip.example.com", "Type": "A",
      "AliasTarget": { "HostedZoneId": "Z1H1FL5HABSF5",
        "DNSName": "maip-prod-dr-alb-2222222222.us-west-2.elb.amazonaws.com",
        "EvaluateTargetHealth": true } } }] }'

  export AWS_REGION=us-west-2 KUBECONFIG=$WEST_KUBECONFIG
  aws_ eks update-nodegroup-config --cluster-name maip-prod-dr-eks-cluster \
    --nodegroup-name maip-prod-dr-nodegroup --scaling-config minSize=4,maxSize=20,desiredSize=8
  kubectl scale deployment --all -n maip-services --replicas=4
  kubectl get pods -n maip-services
  until [ "$(curl -s -o /dev/null -w '%{http_code}' --connect-to "::$WEST_LB" \
    "http://api.maip.example.com/actuator/health")" = 200 ]; do sleep 1; done
}

"$1"

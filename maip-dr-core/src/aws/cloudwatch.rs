//! Metrics, asked in the Region that holds them.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, ScanBy};
use jiff::Timestamp;

use crate::aws::config::Reach;
use crate::aws::errors::Call;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::id::RegionId;

/// Metrics of one Region.
#[derive(Debug)]
pub(super) struct CloudWatch {
    region: RegionId,
    client: Client,
}

impl CloudWatch {
    pub(super) fn new(reach: &Reach) -> Self {
        Self { region: reach.region.clone(), client: Client::new(&reach.read) }
    }

    /// The largest value of each minute at or after `since`, oldest first.
    ///
    /// GetMetricData and not GetMetricStatistics: it pages, and has the larger quota.
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
    pub(super) async fn maxima(
        &self,
        namespace: &str,
        name: &str,
        dimensions: &[(&str, &str)],
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, f64)>> {
        let call = Call::reads("cloudwatch:GetMetricData", &self.region);
        let dimensions =
            dimensions.iter().map(|(k, v)| Dimension::builder().name(*k).value(*v).build()).collect();
        let metric =
            Metric::builder().namespace(namespace).metric_name(name).set_dimensions(Some(dimensions)).build();
        let stat = MetricStat::builder().metric(metric).period(60).stat("Maximum").build();
        let query = MetricDataQuery::builder().id("m").metric_stat(stat).return_data(true).build();
        // The end is exclusive, and the newest minute must be in.
        let end = SystemClock.now().as_second().saturating_add(60);
        if since.as_second() >= end {
            return Ok(Vec::new());
        }
        let request = self
            .client
            .get_metric_data()
            .metric_data_queries(query)
            .start_time(aws_smithy_types::DateTime::from_secs(since.as_second()))
            .end_time(aws_smithy_types::DateTime::from_secs(end))
            .scan_by(ScanBy::TimestampAscending);
        let mut pages = request.into_paginator().send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for result in page.map_err(|e| call.failed(e))?.metric_data_results.unwrap_or_default() {
                let times = result.timestamps.unwrap_or_default();
                for (at, value) in times.iter().zip(result.values.unwrap_or_default()) {
                    if let Ok(at) = Timestamp::from_second(at.secs()) {
                        found.insert(at, value);
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

//! The hosted zones that AWS load balancers live in: one a Region and type.
//!
//! From <https://docs.aws.amazon.com/general/latest/gr/elb.html>. A Region that is not here is not checked.

use std::fmt;

/// Region, zone of its Application and Classic Load Balancers, zone of its Network Load Balancers.
const ZONES: [(&str, &str, &str); 38] = [
    ("af-south-1", "Z268VQBMOI5EKX", "Z203XCE67M25HM"),
    ("ap-east-1", "Z3DQVH9N71FHZ0", "Z12Y7K3UBGUAD1"),
    ("ap-east-2", "Z02789141MW7T1WBU19PO", "Z09176273OC2HWIAUNYW"),
    ("ap-northeast-1", "Z14GRHDCWA56QT", "Z31USIVHYNEOWT"),
    ("ap-northeast-2", "ZWKZPGTI48KDX", "ZIBE1TIR4HY56"),
    ("ap-northeast-3", "Z5LXEXXYW11ES", "Z1GWIQ4HH19I5X"),
    ("ap-south-1", "ZP97RAFLXTNZK", "ZVDDRBQ08TROA"),
    ("ap-south-2", "Z0173938T07WNTVAEPZN", "Z0711778386UTO08407HT"),
    ("ap-southeast-1", "Z1LMS91P8CMLE5", "ZKVM4W9LS7TM"),
    ("ap-southeast-2", "Z1GM3OXH4ZPM65", "ZCT6FZBF4DROD"),
    ("ap-southeast-3", "Z08888821HLRG5A9ZRTER", "Z01971771FYVNCOVWJU1G"),
    ("ap-southeast-4", "Z09517862IB2WZLPXG76F", "Z01156963G8MIIL7X90IV"),
    ("ap-southeast-5", "Z06010284QMVVW7WO5J", "Z026317210H9ACVTRO6FB"),
    ("ap-southeast-6", "Z023301818UFJ50CIO0MV", "Z01392953RKV2Q3RBP0KU"),
    ("ap-southeast-7", "Z0390008CMBRTHFGWBCB", "Z054363131YWATEMWRG5L"),
    ("ca-central-1", "ZQSVJUPU6J1EY", "Z2EPGBW3API2WT"),
    ("ca-west-1", "Z06473681N0SF6OS049SD", "Z02754302KBB00W2LKWZ9"),
    ("cn-north-1", "Z1GDH35T77C1KE", "Z3QFB96KMJ7ED6"),
    ("cn-northwest-1", "ZM7IZAIOVVDZF", "ZQEIKTCZ8352D"),
    ("eu-central-1", "Z215JYRZR1TBD5", "Z3F0SRJ5LGBH90"),
    ("eu-central-2", "Z06391101F2ZOEP8P5EB3", "Z02239872DOALSIDCX66S"),
    ("eu-north-1", "Z23TAZ6LKFMNIO", "Z1UDT6IFJ4EJM"),
    ("eu-south-1", "Z3ULH7SSC9OV64", "Z23146JA1KNAFP"),
    ("eu-south-2", "Z0956581394HF5D5LXGAP", "Z1011216NVTVYADP1SSV"),
    ("eu-west-1", "Z32O12XQLNTSW2", "Z2IFOLAFXWLO4F"),
    ("eu-west-2", "ZHURV8PSTC4K8", "ZD4D7Y8KGAS4G"),
    ("eu-west-3", "Z3Q77PNBQS71R4", "Z1CMS0P5QUZ6D5"),
    ("il-central-1", "Z09170902867EHPV2DABU", "Z0313266YDI6ZRHTGQY4"),
    ("me-central-1", "Z08230872XQRWHG2XF6I", "Z00282643NTTLPANJJG2P"),
    ("me-south-1", "ZS929ML54UICD", "Z3QSRYVP46NYYV"),
    ("mx-central-1", "Z023552324OKD1BB28BH5", "Z02031231H3ID6HYJ9A7U"),
    ("sa-east-1", "Z2P70J7HTTTPLU", "ZTK26PT1VY4CU"),
    ("us-east-1", "Z35SXDOTRQ7X7K", "Z26RNL4JYFTOTI"),
    ("us-east-2", "Z3AADJGX6KTTL2", "ZLMOA37VPKANP"),
    ("us-gov-east-1", "Z166TLBEWOO7G0", "Z1ZSMQQ6Q24QQ8"),
    ("us-gov-west-1", "Z33AYJ8TM3BH4J", "ZMG1MZ2THAWF1"),
    ("us-west-1", "Z368ELLRRE2KJ0", "Z24FKFUX50B4VW"),
    ("us-west-2", "Z1H1FL5HABSF5", "Z18D5FSROUN65G"),
];

/// What sort of load balancer: each sort has a zone of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Application and Classic Load Balancers.
    Application,
    /// Network Load Balancers.
    Network,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "Application and Classic Load Balancers",
            Self::Network => "Network Load Balancers",
        })
    }
}

/// The sort and Region that the DNS name of an AWS load balancer tells; `None` for another name.
pub(super) fn described(dns_name: &str) -> Option<(Sort, String)> {
    let name = dns_name.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_suffix(".amazonaws.com").or_else(|| name.strip_suffix(".amazonaws.com.cn"))?;
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        [_, .., region, "elb"] => Some((Sort::Application, (*region).to_owned())),
        [_, .., "elb", region] => Some((Sort::Network, (*region).to_owned())),
        _ => None,
    }
}

/// The zone of a Region's load balancers, where it is known.
pub(super) fn zone_of(region: &str, sort: Sort) -> Option<&'static str> {
    ZONES.iter().find(|(r, ..)| *r == region).map(|(_, application, network)| match sort {
        Sort::Application => *application,
        Sort::Network => *network,
    })
}

/// The sort and Region that a zone belongs to.
pub(super) fn owner_of(zone: &str) -> Option<(Sort, &'static str)> {
    ZONES.iter().find_map(|(region, application, network)| {
        let sort = if zone == *application {
            Sort::Application
        } else if zone == *network {
            Sort::Network
        } else {
            return None;
        };
        Some((sort, *region))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_sort_and_region() {
        let alb = "maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com";
        assert_eq!(described(alb), Some((Sort::Application, "us-east-1".to_owned())));
        let nlb = "dualstack.internal-n-1.elb.eu-west-1.amazonaws.com.";
        assert_eq!(described(nlb), Some((Sort::Network, "eu-west-1".to_owned())));
        assert_eq!(described("lb.example.com"), None);
    }

    #[test]
    fn no_zone_is_there_twice() {
        let mut all: Vec<&str> = ZONES.iter().flat_map(|(_, a, n)| [*a, *n]).collect();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}

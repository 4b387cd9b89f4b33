//! The table of reasons: a code, and what is said of it in English and in Korean.

use super::{Language, Texts};

reasons! {
    Ready "ready"
        "{image} is ready on {ready} of {count} nodes of {partition}; {required} must be." None;
        "{image}: 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)." None;
    Missing "missing"
        "{image} is missing on {nodes}: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Bring it there: sifleet push {image} -p {partition}, or ask for a verdict with \"ensure\": true.");
        "{image}: 노드 {nodes}에 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("이미지를 배포하십시오: sifleet push {image} -p {partition}, 또는 \"ensure\": true 옵션으로 다시 요청하십시오.");
    Outdated "outdated"
        "Another image than the library's lies on {nodes} as {image}: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Replace it there: sifleet push {image} -p {partition}, or ask for a verdict with \"ensure\": true.");
        "{image}: 노드 {nodes}의 이미지가 라이브러리와 다릅니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("최신 이미지로 교체하십시오: sifleet push {image} -p {partition}, 또는 \"ensure\": true 옵션으로 다시 요청하십시오.");
    WrongDigest "wrong_digest"
        "Other bytes than {what} lie on {nodes} as {image}: those are on {ready} of {count} nodes of {partition}, and {required} must hold them."
        Some("Push the bytes that are asked for to {partition}, or ask for those that are there.");
        "{image}: 노드 {nodes}의 내용이 요청한 다이제스트({what})와 다릅니다. 파티션 {partition}의 노드 {count}개 중 {ready}개만 일치합니다(필요: {required}개)."
        Some("요청한 다이제스트의 이미지를 파티션 {partition}에 배포하거나, 노드에 있는 다이제스트를 요청하십시오.");
    Unusable "unusable"
        "What lies on {nodes} as {image} can be run by no job: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("See the reasons node by node; push the image again, or build it again if it is damaged everywhere.");
        "{image}: 노드 {nodes}의 파일은 실행할 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("노드별 사유를 확인한 뒤 이미지를 다시 배포하고, 모든 노드에서 손상되었다면 다시 빌드하십시오.");
    TooFewNodes "too_few_nodes"
        "{image} cannot be ready on {required} nodes of {partition}: there are {count}."
        Some("Require fewer nodes, or see which there are: sifleet partition show {partition}.");
        "{image}: 노드 {required}개가 필요하지만 파티션 {partition}의 노드는 {count}개뿐입니다."
        Some("필요한 노드 수를 줄이거나 노드 목록을 확인하십시오: sifleet partition show {partition}");
    EmptyPartition "empty_partition"
        "{image} cannot be ready on {partition}: the partition has no nodes."
        Some("See sifleet partition show {partition}, and Slurm's own list of it.");
        "{image}: 파티션 {partition}에 노드가 없습니다."
        Some("sifleet partition show {partition} 및 Slurm의 파티션 설정을 확인하십시오.");
    LeaseExpired "lease_expired"
        "Whether {image} is on {nodes} is not known: their agents have fallen silent. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("See that the nodes are up and that sifleet-agent runs on them: sifleet node ls.");
        "{image}: 노드 {nodes}의 에이전트가 응답하지 않아 상태를 알 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("노드가 켜져 있고 sifleet-agent가 실행 중인지 확인하십시오: sifleet node ls");
    NeverSeen "never_seen"
        "Whether {image} is on {nodes} is not known: no agent ever spoke for them. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Install sifleet-agent on them, and enrol them: sifleet token create --nodes NODE.");
        "{image}: 노드 {nodes}의 에이전트가 접속한 적이 없어 상태를 알 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("해당 노드에 sifleet-agent를 설치하고 등록하십시오: sifleet token create --nodes NODE");
    Syncing "syncing"
        "Whether {image} is on {nodes} is not known yet: their inventories are on the way. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Ask again in a moment.");
        "{image}: 노드 {nodes}의 목록을 수신하는 중이라 아직 상태를 알 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("잠시 후 다시 확인하십시오.");
    BeingWritten "being_written"
        "{image} is being written on {nodes}: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Ask again when whoever writes it is done.");
        "{image}: 노드 {nodes}에서 파일을 쓰는 중입니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("쓰기가 끝난 뒤 다시 확인하십시오.");
    Hashing "hashing"
        "{image} is being hashed on {nodes}: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Ask again in a moment.");
        "{image}: 노드 {nodes}에서 파일을 검사하는 중입니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("잠시 후 다시 확인하십시오.");
    Unreadable "unreadable"
        "The agents of {nodes} may not read {image}: it is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("Let everybody read the file; the reasons name what stands in the way.");
        "{image}: 노드 {nodes}의 에이전트가 파일을 읽을 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("모든 사용자가 파일을 읽을 수 있도록 권한을 변경하십시오. 자세한 내용은 노드별 사유에 있습니다.");
    LibraryUnknown "library_unknown"
        "Whether {nodes} hold the right {image} is not known: the library cannot say which it is. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("See that the library's node is online: sifleet image show {image}.");
        "{image}: 라이브러리의 상태를 알 수 없어 노드 {nodes}의 이미지가 올바른지 판단할 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("라이브러리 노드가 온라인인지 확인하십시오: sifleet image show {image}");
    RootUnknown "root_unknown"
        "Whether {image} is on {nodes} is not known: a watched directory there cannot be looked at. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("See which directory it is and why: sifleet node show NODE.");
        "{image}: 노드 {nodes}의 감시 디렉터리를 확인할 수 없어 상태를 알 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("어느 디렉터리가 문제인지 확인하십시오: sifleet node show NODE");
    Unknown "unknown"
        "Whether {image} is on {nodes} is not known. It is ready on {ready} of {count} nodes of {partition}, and {required} must be."
        Some("See the reasons node by node.");
        "{image}: 노드 {nodes}의 상태를 알 수 없습니다. 파티션 {partition}의 노드 {count}개 중 {ready}개에서 준비되었습니다(필요: {required}개)."
        Some("노드별 사유를 확인하십시오.");
    NotSigned "not_signed"
        "{image} is on {ready} of {count} nodes of {partition}, and it is not signed by {what}."
        Some("Sign the image (apptainer sign) and push it again, or ask for no signature.");
        "{image}: 파티션 {partition}의 노드 {count}개 중 {ready}개에 있지만 {what} 키로 서명되지 않았습니다."
        Some("이미지에 서명한 뒤(apptainer sign) 다시 배포하거나, 서명 요구를 해제하십시오.");
    SignatureBad "signature_bad"
        "{image} is on {ready} of {count} nodes of {partition}, and a signature of it does not hold: {what}."
        Some("Do not run it: get it anew from whoever signed it.");
        "{image}: 파티션 {partition}의 노드 {count}개 중 {ready}개에 있지만 서명이 유효하지 않습니다: {what}."
        Some("실행하지 말고 서명자에게서 이미지를 다시 받으십시오.");
    SignerNotTrusted "signer_not_trusted"
        "{image} is on {ready} of {count} nodes of {partition}, and somebody else has signed it: {what}."
        Some("Have it signed by whom the template names; the key must be in the coordinator's keyring.");
        "{image}: 파티션 {partition}의 노드 {count}개 중 {ready}개에 있지만 다른 사람이 서명했습니다: {what}."
        Some("템플릿에 지정된 서명자의 서명을 받으십시오. 그 공개 키가 코디네이터의 키링에 있어야 합니다.");
    SignatureUnknown "signature_unknown"
        "{image} is on {ready} of {count} nodes of {partition}, and who signed it is being found out; {what} must have."
        Some("Ask again in a moment.");
        "{image}: 파티션 {partition}의 노드 {count}개 중 {ready}개에 있으며 서명을 확인하는 중입니다(필요한 서명자: {what})."
        Some("잠시 후 다시 확인하십시오.");
    OnlyInLibrary "only_in_library"
        "{image} is in the library, and no partition's nodes are known to hold it."
        Some("Bring it to the nodes of a partition: sifleet push {image} -p PARTITION.");
        "{image}: 라이브러리에만 있으며 어느 파티션의 노드에도 없습니다."
        Some("파티션의 노드에 배포하십시오: sifleet push {image} -p PARTITION");
    UnknownImage "unknown_image"
        "No node ever reported an image {image}, and every node of {partition} is known not to hold it.{what}"
        Some("See which there are: sifleet image ls; bring it with sifleet push FILE -p {partition}.");
        "{image}: 어떤 노드에서도 보고된 적이 없으며 파티션 {partition}의 모든 노드에 없습니다.{what}"
        Some("이미지 목록을 확인하거나(sifleet image ls) 파일을 배포하십시오: sifleet push FILE -p {partition}");
    AmbiguousImage "ambiguous_image"
        "{image} means several images: {what}."
        Some("Name one of them in full.");
        "{image}: 여러 이미지에 해당합니다: {what}."
        Some("그중 하나를 정확한 이름으로 지정하십시오.");
    BadImage "bad_image"
        "{image} cannot name an image: {what}."
        Some("Write a name such as vnc_desktop.sif, or name@blake3:….");
        "{image}: 이미지 이름으로 사용할 수 없습니다: {what}."
        Some("vnc_desktop.sif 또는 name@blake3:… 형식으로 지정하십시오.");
    UnknownPartition "unknown_partition"
        "No partition is called {partition}.{what}"
        Some("See which there are: sifleet partition ls.");
        "파티션 {partition}: 존재하지 않습니다.{what}"
        Some("파티션 목록을 확인하십시오: sifleet partition ls");
    UnknownNode "unknown_node"
        "Whether {image} is there is not known: no agent and no partition ever named {nodes}."
        Some("Check the names: sifleet node ls.");
        "{image}: 노드 {nodes}의 정보가 전혀 없어 상태를 알 수 없습니다."
        Some("노드 이름을 확인하십시오: sifleet node ls");
    NodeElsewhere "node_elsewhere"
        "{partition} does not have {nodes}: none of its jobs would run {image} there."
        Some("See which nodes it has: sifleet partition show {partition}.");
        "{image}: 파티션 {partition}에 속하지 않는 노드에서는 작업이 실행되지 않습니다: {nodes}."
        Some("파티션의 노드를 확인하십시오: sifleet partition show {partition}");
    TemplateUnreadable "template_unreadable"
        "What the template needs is not known, for its file cannot be read: {what}."
        Some("Correct the file; it is read again within two seconds.");
        "템플릿 파일을 읽을 수 없어 필요한 이미지를 알 수 없습니다: {what}."
        Some("파일을 수정하십시오. 2초 안에 다시 읽습니다.");
    ScanCompleted "scan_completed"
        "Scan completed" None;
        "스캔이 완료되었습니다" None;
    ScanIncomplete "scan_incomplete"
        "Scan ended without an answer of {nodes}; what is said of them is what was last known" None;
        "스캔이 끝났지만 노드 {nodes}의 응답이 없어 마지막으로 알려진 상태를 표시합니다" None;
    Offline "offline"
        "{nodes}: no agent is connected."
        Some("See that the nodes are up and that sifleet-agent runs on them.");
        "노드 {nodes}: 에이전트가 연결되어 있지 않습니다."
        Some("노드가 켜져 있고 sifleet-agent가 실행 중인지 확인하십시오.");
    Silent "silent"
        "{nodes}: no word that their directories were looked at, in the time there was."
        Some("Scan again; a file system that hangs holds the answer up.");
        "노드 {nodes}: 제한 시간 안에 디렉터리 확인이 끝나지 않았습니다."
        Some("다시 스캔하십시오. 응답하지 않는 파일 시스템이 원인일 수 있습니다.");
}

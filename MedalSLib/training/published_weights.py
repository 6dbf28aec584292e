"""How often the published training drew each data set, beside what its size says.

From `data/dataset_config/cvpr25.json` (entry `sampling_weight`) of the published code,
github.com/yinghemedical/Medal-S at commit a01e278.  The recipes take this table unless they bring one of their own
(`sampling.sampling_weight`).
"""

from __future__ import annotations

_BY_WEIGHT = {
    1.0: "CT_Abdomen1K CT_Aeropath CT_AirwayTree CT_Aorta CT_ThoracicOrgans-TCIA-LCTSC MR_CHAOS-T1 MR_CHAOS-T2 "
    "MR_LeftAtrium MR_ProstateT2 cremi",
    1.2: "CT_AbdomenAtlas",
    1.5: "CT_AMOS CT_Lungs CT_TopCoW24 MR_AMOS MR_HVSMR MR_IBD MR_SegThy MR_T1c_crossMoDA_Tumor_Cochlea MR_TopCoW24 "
    "US_Low-limb-Leg",
    2.0: "CT_AdrenalTumor CT_COVID19-Infection CT_KidneyTumor CT_LungLesion CT_PancreasTumor CT_SegRap_HeadNeckTumor "
    "MR_CervicalCancer MR_RESECT MR_Spider_IVD MR_Spider_Vertebrae MR_WMH_T1 US_RESECT US_SegThy",
    2.5: "CT_ColonTumor CT_HaN-Seg CT_LiverTumor CT_LymphNode CT_TotalSeg_cardiac CT_TotalSeg_organs CT_WholeBodyTumor "
    "MR_HNTS-MRG_HeadTumor MR_Heart_ACDC MR_ISLES_ADC MR_ISLES_DWI MR_ProstateADC MR_QIN-PROSTATE-Lesion "
    "MR_Spider_Spine MR_WMH_FLAIR Microscopy_AxonEM Microscopy_MUCIC-HL60 Microscopy_NIS3D "
    "Microscopy_SELMA3D_ADplaques Microscopy_SELMA3D_neural_activity_marker Microscopy_SELMA3D_nuceus "
    "Microscopy_SELMA3D_vessel Microscopy_cremi US_Cardiac",
    3.0: "CT_TotalSeg-vertebrae CT_TotalSeg_muscles MR_BraTS-T1c MR_BraTS-T1n MR_BraTS-T2f MR_BraTS-T2w "
    "Microscopy_nucmm Microscopy_urocell_Endolysosomes Microscopy_urocell_Mitochondria",
    3.5: "MR_TotalSeg",
    5.0: "autoPET",
}
PUBLISHED_WEIGHTS: dict[str, float] = {name: weight for weight, names in _BY_WEIGHT.items() for name in names.split()}
"""Weight by data set; 1 for one that is not in it."""
